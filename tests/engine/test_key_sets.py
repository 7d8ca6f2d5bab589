"""Keys of issuers: fetched once however many wait, kept fresh beside requests, and never believed for too long."""

from __future__ import annotations

import json

import pytest

from meshlib.compiler.token_rules import KeySource
from meshlib.engine import key_sets
from meshlib.engine.drivers import run
from meshlib.engine.effects import Ask, Serve, Wait
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.outcome import Failure, Outcome
from tests.support.token_bench import IDP, KEYS, TokenBench, request_authentication
from tests.support.tokens import issuer

SIGNER, NEXT, FOREIGN = issuer("ES256"), issuer("ES256", "b"), issuer("ES256", "c")
JWKS = SIGNER.jwks().encode()
OURS = f"{IDP}/jane"
FETCH_FAILED = "401 Jwks remote fetch is failed"
DISCOVERY = f"{IDP}/.well-known/openid-configuration"


def bench(answer=JWKS, **rule):
    fields = {"issuer": IDP, "jwksUri": KEYS, **rule}
    return TokenBench(request_authentication(fields), **{KEYS: answer})


def redirect(location):
    return Outcome(status=302, headers=[(b"Location", location.encode())], whole=b"")


# -- the first fetch ----------------------------------------------------------------------------------------------------


def test_keys_are_fetched_when_the_first_token_needs_them_and_then_kept():
    here = bench()
    assert here.outcome() == "nobody"
    assert here.idp.asked == [], "no token, no need"
    assert [here.outcome(here.token(sub=str(n))) for n in range(3)] == [f"{IDP}/{n}" for n in range(3)]
    assert here.idp.asked == [KEYS]


def test_tokens_that_no_key_could_save_fetch_nothing():
    here = bench()
    for token in ("x", here.token(exp=1), here.token(iss="else")):
        assert here.outcome(token).startswith("401")
    assert here.idp.asked == []


def waiting(here, count):
    """Requests with a good token, each at its first effect."""
    steps = []
    for n in range(count):
        headers = [("authorization", f"Bearer {here.token(sub=str(n))}")]
        step = here.check(InboundRequest("GET", "/", headers, authority="shop"))
        steps.append((step, next(step)))
    return steps


def test_one_fetches_and_the_others_wait_for_it():
    here = bench()
    (first, asking), *others = waiting(here, 40)
    assert isinstance(asking, Ask)
    assert asking.limit == 1024 * 1024
    assert all(isinstance(effect, Wait) and effect.timeout == 5.0 for _, effect in others)
    asking.outcome = Outcome(status=200, whole=JWKS)
    assert next(first).refusal is None
    assert all(effect.flight.landed for _, effect in others)
    assert [next(step).refusal for step, _ in others] == [None] * 39
    assert here.idp.asked == [KEYS]


def test_when_the_one_that_fetches_is_cancelled_another_fetches():
    here = bench()
    (first, asking), (second, effect), (third, _) = waiting(here, 3)
    first.close()
    assert effect.flight.landed
    again = next(second)
    assert isinstance(again, Ask)
    assert isinstance(next(third), Wait)
    again.outcome = Outcome(status=200, whole=JWKS)
    assert isinstance(next(second), Serve)
    assert next(third).refusal is None


def test_who_waits_does_not_wait_longer_than_the_rule_allows():
    here = bench(timeout="2s")
    (_, asking), (second, effect) = waiting(here, 2)
    assert effect.timeout == 2.0
    here.clock.advance(2.0)
    assert next(second).refusal.text == "Jwks remote fetch is failed"


def test_cancelled_requests_leave_nothing():
    here = bench()
    for _ in range(500):
        for step, _ in waiting(here, 4):
            step.close()
    assert here.outcome(here.token()) == OURS
    assert here.state.tokens.key_sets._flights._under_way == {}
    assert here.idp.open == 0


def test_the_rules_timeout_bounds_the_whole_fetch():
    """A fetch that drips is over when the route's timeout is, which a header sets."""
    here = bench(timeout="1500ms")
    assert here.outcome(here.token()) == OURS
    ((request, timeout),) = here.idp.requests
    assert timeout == 1.5
    assert request.header("x-envoy-upstream-rq-timeout-ms") == "1500"
    assert request.header("authorization") is None


# -- what goes wrong ----------------------------------------------------------------------------------------------------

BAD = {
    "500": 500,
    "404": 404,
    "no content": 204,
    "a hang": Failure.TIMEOUT,
    "no connection": Failure.CONNECT_FAILED,
    "10 MB": Failure.PROTOCOL_ERROR,  # what reading more than the limit comes to
    "an empty body": b"",
    "an empty set": b'{"keys":[]}',
    "garbage": b"<html>canary</html>",
    "half a set": JWKS[:-5],
    "a list": b"[]",
    "duplicate keys": b'{"keys":[],"keys":[]}',
    "keys of no use": json.dumps({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "canary": "x"}]}).encode(),
    "deep": b'{"keys":' + b"[" * 100_000,
    "a redirect to another host": redirect("https://evil.example.com/keys"),
    "a redirect to metadata": redirect("http://169.254.169.254/latest/meta-data"),
    "a redirect out of TLS": redirect("http://idp.example.com/keys"),
    "a redirect to itself": redirect(KEYS),
    "a redirect to nowhere": Outcome(status=302, whole=b""),
}


@pytest.mark.parametrize("what", list(BAD))
def test_without_keys_tokens_are_refused_and_others_come_in(what):
    here = bench(BAD[what])
    said = []
    here.state.tokens.key_sets.report = lambda *told: said.append(told)
    assert here.outcome(here.token()) == FETCH_FAILED
    assert here.outcome() == "nobody"
    [(url, why)] = said
    assert url == KEYS
    assert why
    assert "canary" not in why
    [status] = here.state.tokens.key_sets.status()
    assert (status["keys"], status["usable"], status["error"]) == (0, False, why)


@pytest.mark.parametrize("what", list(BAD))
def test_the_last_good_keys_serve_until_they_are_too_old(what):
    here = bench([JWKS, BAD[what]])
    assert here.outcome(here.token()) == OURS
    here.clock.advance(key_sets.REFRESH)
    assert here.outcome(here.token()) == OURS
    here.runtime.run_spawned()
    assert len(here.idp.asked) > 1
    here.clock.advance(key_sets.MAX_AGE - key_sets.REFRESH - 1)
    assert here.outcome(here.token(sub="joe")) == f"{IDP}/joe"
    here.runtime.run_spawned()
    here.clock.advance(1)
    assert here.outcome(here.token()).startswith("401"), "seen before or not"
    here.clock.advance(60)
    assert here.outcome(here.token(sub="new")) == FETCH_FAILED


def test_it_recovers():
    here = bench([500, 500, JWKS])
    assert here.outcome(here.token()) == FETCH_FAILED
    here.clock.advance(1)
    assert here.outcome(here.token()) == FETCH_FAILED
    here.clock.advance(1)
    assert here.outcome(here.token()) == FETCH_FAILED
    assert len(here.idp.asked) == 2, "each pause is longer than the one before"
    here.clock.advance(1)
    assert here.outcome(here.token()) == OURS


def test_a_source_that_is_down_is_not_asked_at_every_request():
    here = bench(500)
    for _ in range(100):
        assert here.outcome(here.token()) == FETCH_FAILED
        here.clock.advance(0.1)
    assert len(here.idp.asked) == 4  # after 0, 1, 3 and 7 s
    here.clock.advance(1000)
    for _ in range(100):
        here.outcome(here.token())
        here.clock.advance(1)
    assert len(here.idp.asked) == 14, "at last every ten seconds"


def test_the_first_failure_is_reported_and_the_first_after_a_success():
    here = bench([500, 500, JWKS, 500, 500])
    said = []
    here.state.tokens.key_sets.report = lambda *told: said.append(told)
    for _ in range(3):
        here.outcome(here.token())
        here.clock.advance(10)
    assert said == [(KEYS, "status 500")]
    for _ in range(2):
        here.clock.advance(key_sets.REFRESH)
        here.outcome(here.token())
        here.runtime.run_spawned()
    assert len(said) == 2


# -- fresh keys ---------------------------------------------------------------------------------------------------------


def test_keys_are_refreshed_beside_requests():
    here = bench([JWKS, NEXT.jwks().encode()])
    old = here.token()
    assert here.outcome(old) == OURS
    here.clock.advance(key_sets.REFRESH - 1)
    assert here.outcome(old) == OURS
    assert here.runtime.spawned == []
    here.clock.advance(1)
    old = here.token()
    for _ in range(3):
        assert here.outcome(old) == OURS, "nobody waits"
    assert len(here.idp.asked) == 1
    here.runtime.run_spawned()
    assert len(here.idp.asked) == 2
    assert here.outcome(old).startswith("401"), "its key is gone, and what it had verified"
    assert here.outcome(here.token(NEXT)) == OURS


def test_one_of_many_requests_refreshes():
    here = bench()
    here.outcome(here.token())
    here.clock.advance(key_sets.REFRESH)
    for _ in range(10):
        here.outcome(here.token())
    assert len(here.runtime.spawned) == 1
    here.runtime.run_spawned()
    for _ in range(10):
        here.outcome(here.token())
    assert here.runtime.spawned == []


def test_a_refresh_that_was_dropped_is_made_later():
    here = bench()
    here.outcome(here.token())
    here.clock.advance(key_sets.REFRESH)
    here.outcome(here.token())
    here.runtime.spawned.pop().close()
    here.clock.advance(10)
    here.outcome(here.token())
    assert len(here.runtime.spawned) == 1


def test_a_key_that_is_not_known_is_looked_for_once_in_ten_seconds():
    both = json.dumps({"keys": [SIGNER.jwk, NEXT.jwk]}).encode()
    here = bench([JWKS, JWKS, both])
    unknown = "401 Jwks doesn't have key to match kid or alg from Jwt"
    assert here.outcome(here.token()) == OURS
    assert here.outcome(here.token(NEXT)) == unknown
    assert len(here.idp.asked) == 1, "they are fresh"
    here.clock.advance(10)
    assert [here.outcome(here.token(FOREIGN, sub=str(n))) for n in range(20)] == [unknown] * 20
    assert len(here.idp.asked) == 2
    here.clock.advance(10)
    assert here.outcome(here.token(NEXT)) == OURS, "the issuer has a new key by now"
    assert here.outcome(here.token()) == OURS
    assert len(here.idp.asked) == 3


def test_looking_for_a_key_loses_none():
    here = bench([JWKS, 500])
    assert here.outcome(here.token()) == OURS
    here.clock.advance(10)
    assert here.outcome(here.token(NEXT)).startswith("401")
    assert here.outcome(here.token(sub="joe")) == f"{IDP}/joe"


def test_a_key_without_kid_is_no_reason_to_look():
    here = bench(SIGNER.jwks(kid=None).encode())
    assert here.outcome(here.token(header={"kid": "any"})) == OURS
    here.clock.advance(100)
    assert here.outcome(here.token(NEXT)) == "401 Jwt verification fails"
    assert len(here.idp.asked) == 1


# -- where from ---------------------------------------------------------------------------------------------------------


def test_without_url_the_issuer_is_asked_where_its_keys_are():
    here = TokenBench(
        request_authentication({"issuer": f"{IDP}/"}),
        **{
            DISCOVERY: json.dumps({"jwks_uri": "https://keys.example.com/k"}).encode(),
            "https://keys.example.com/k": JWKS,
        },
    )
    assert here.outcome(here.token(iss=f"{IDP}/")) == f"{IDP}//jane"
    assert here.idp.asked == [DISCOVERY, "https://keys.example.com/k"]


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"jwks_uri":1}', b'{"jwks_uri":"file:///etc/passwd"}', 500])
def test_a_discovery_document_that_leads_nowhere(document):
    here = TokenBench(request_authentication({"issuer": IDP}), **{DISCOVERY: document})
    assert here.outcome(here.token()) == FETCH_FAILED
    assert here.idp.asked == [DISCOVERY]


def test_an_issuer_that_is_no_url_has_no_keys():
    here = TokenBench(request_authentication({"issuer": "jane@example.com"}))
    assert here.outcome(here.token(iss="jane@example.com")) == FETCH_FAILED
    assert here.idp.asked == []


def test_a_redirect_on_the_same_server_is_followed():
    here = bench(redirect("/other"))
    here.idp.documents[f"{IDP}/other"] = JWKS
    assert here.outcome(here.token()) == OURS
    assert here.idp.asked == [KEYS, f"{IDP}/other"]


def test_a_user_in_the_url_is_sent_and_shown_nowhere():
    here = TokenBench(request_authentication({"jwksUri": "https://u:canary@idp.example.com/keys"}), **{KEYS: 500})
    here.outcome(here.token())
    [(request, _)] = here.idp.requests
    assert request.header("authorization") == "Basic dTpjYW5hcnk="
    assert here.idp.asked == [KEYS]
    assert "canary" not in str(list(here.state.tokens.key_sets.status())) + repr(here.state.tokens.key_sets)


# -- reloads, forks -----------------------------------------------------------------------------------------------------


def test_keys_survive_a_reload_by_their_url():
    here = bench()
    here.outcome(here.token())
    here.configure(request_authentication({"issuer": IDP, "jwksUri": KEYS, "audiences": ["api"]}))
    assert here.outcome(here.token(aud="api")) == OURS
    assert here.idp.asked == [KEYS]


def test_keys_that_no_rule_names_any_more_are_forgotten():
    here = bench()
    here.outcome(here.token())
    here.configure()
    assert list(here.state.tokens.key_sets.status()) == []


def test_a_reload_while_keys_are_fetched():
    here = bench()
    ((first, asking),) = waiting(here, 1)
    here.configure(request_authentication({"issuer": IDP, "jwksUri": KEYS, "audiences": ["api"]}))
    asking.outcome = Outcome(status=200, whole=JWKS)
    assert next(first).refusal is None, "it is served by the rules that it began with"
    assert here.outcome(here.token(aud="api")) == OURS
    assert here.idp.asked == [KEYS]


def test_in_a_forked_child_nobody_waits_for_the_parents_fetch():
    here = bench()
    ((_first, _asking),) = waiting(here, 1)
    here.state.after_fork()
    assert here.outcome(here.token()) == OURS


def test_a_url_as_keys_and_as_discovery_are_two_sources():
    assert KeySource("https://a").key != KeySource("https://a", discovery=True).key


def test_a_refresh_is_an_exchange_of_its_own():
    here = bench()
    here.outcome(here.token())
    here.clock.advance(key_sets.REFRESH)
    held = here.state.tokens.key_sets.held(KeySource(KEYS))
    exchange = here.state.tokens.key_sets.begin_refresh(held)
    assert here.state.tokens.key_sets.begin_refresh(held) is None
    delivered = run(exchange, here.runtime)
    assert (delivered.outcome.status, held.attempts) == (200, 2)
    assert next(exchange, None) is None
