"""The outbound exchange, on a fake clock and without a network: routing, and what calls leave behind (see test_outbound_*)."""

from __future__ import annotations

import pytest

from meshlib.engine.drivers import finish, run
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.outcome import Failure, Outcome
from tests.support.outbound import PODS, SUBSETS, V1, bench, idle
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.scripted import Bench

# -- routing and local answers ----------------------------------------------------------------------------------------


def test_no_rule_matches_is_404_with_flag_nr_and_nothing_is_sent():
    b = bench({"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("reviews", "v2")]})
    script = b.script(200)
    outcome, call = b.call(script)
    assert (outcome.status, outcome.whole, call.record.flags, script.sends) == (404, b"", "NR", [])
    assert call.record.rule is None


def test_unknown_subset_is_503_with_flag_nc():
    b = bench({"route": [to("reviews", "v9")]})
    outcome, call = b.call(b.script(200))
    assert (outcome.status, call.record.flags) == (503, "NC")


def test_subset_without_endpoints_is_503_no_healthy_upstream():
    b = Bench(
        *PODS, destination_rule("reviews", "v1", "v7"), virtual_service("reviews", {"route": [to("reviews", "v7")]})
    )
    outcome, call = b.call(b.script(200))
    assert (outcome.status, outcome.whole, call.record.flags) == (503, b"no healthy upstream", "UH")


def test_weights_are_drawn_per_call_and_replay_from_the_seed():
    rule = {"route": [to("reviews", "v1", 75), to("reviews", "v2", 25)]}

    def draw(seed: int) -> list[str]:
        b = bench(rule, seed=seed)
        return [b.call(b.script(200))[1].record.subset for _ in range(2000)]

    first = draw(1)
    assert first == draw(1) != draw(2)
    assert 1420 <= first.count("v1") <= 1580


# -- bookkeeping ------------------------------------------------------------------------------------------------------


def test_an_exchange_closed_at_any_effect_gives_everything_back():
    policy = destination_rule(
        "reviews", "v1", connectionPool={"tcp": {"maxConnections": 1}}, outlierDetection={"consecutive5xxErrors": 5}
    )
    rule = {"route": [to("reviews", "v1")], "retries": {"attempts": 3, "retryOn": "5xx"}}
    for stop_after in range(8):
        b = bench(rule, policy)
        _, exchange = b.begin()
        effect = next(exchange)
        for _ in range(stop_after):
            if type(effect) is Deliver:
                break
            if type(effect) is Send:
                effect.outcome = Outcome(status=503, whole=b"")
            effect = next(exchange)
        exchange.close()
        assert idle(b, V1), stop_after
        assert b.state(V1).slots.in_use == 0


def test_an_answer_cut_in_its_body_is_held_against_the_endpoint():
    policy = destination_rule("reviews", "v1", outlierDetection={"consecutive5xxErrors": 1, "maxEjectionPercent": 100})
    b = bench({"route": [to("reviews", "v1")]}, policy)
    call, exchange = b.begin()
    run(exchange, b.script(Outcome(status=200, body=object())))
    finish(exchange, Failure.RESET)
    assert call.record.flags == "UC"
    assert b.state(V1).endpoints[call.record.endpoint].ejected


def test_an_ejected_endpoint_gets_no_calls_until_it_returns():
    policy = destination_rule(
        "reviews",
        "v1",
        outlierDetection={
            "consecutive5xxErrors": 3,
            "interval": "1s",
            "baseEjectionTime": "30s",
            "maxEjectionPercent": 100,
        },
    )
    b = bench({"route": [to("reviews", "v1")]}, policy)
    bad = "127.0.0.1:1"

    def answer(effect):
        return 503 if effect.endpoint.key == bad else 200

    for _ in range(60):
        b.call(b.script(answer))
    assert b.state(V1).endpoints[bad].ejected
    script = b.script(200)
    for _ in range(50):
        b.call(script)
    assert set(script.tried) == {"127.0.0.1:2"}
    b.clock.advance(32)
    for _ in range(50):
        b.call(script)
    assert bad in script.tried


def test_a_call_ends_on_the_configuration_it_began_with():
    b = bench({"route": [to("reviews", "v1")]})
    call, exchange = b.begin()
    b.apply(*PODS, SUBSETS, virtual_service("reviews", {"route": [to("reviews", "v2")]}))
    script = b.script(200)
    run(exchange, script)
    finish(exchange)
    assert call.record.subset == "v1"
    assert b.call(b.script(200))[1].record.subset == "v2"


def test_ejections_survive_a_reload():
    policy = destination_rule("reviews", "v1", outlierDetection={"consecutive5xxErrors": 1, "maxEjectionPercent": 100})
    rule = virtual_service("reviews", {"route": [to("reviews", "v1")]})
    b = Bench(*PODS, policy, rule)
    _, call = b.call(b.script(503))
    bad = call.record.endpoint
    b.apply(*PODS, policy, rule, service("other"))
    assert b.state(V1).endpoints[bad].ejected
    script = b.script(200)
    for _ in range(20):
        b.call(script)
    assert bad not in script.tried


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"mode": "SIMPLE", "credentialName": "secret"}, "TLS secret secret"),
    ],
)
def test_tls_that_cannot_be_had_fails_the_call_instead_of_going_out_in_plaintext(tls, words):
    b = bench({"route": [to("reviews", "v1")]}, destination_rule("reviews", "v1", tls=tls))
    script = b.script(200)
    outcome, call = b.call(script)
    assert (outcome.failure, call.record.flags, script.sends) == (Failure.CONNECT_FAILED, "UF", [])
    assert words in outcome.detail
    (problem,) = [p for p in b.live.snapshot.problems if p.code == "tls-not-available"]
    assert problem.path == "DestinationRule/default/reviews"


FAILS = Failure.CONNECT_FAILED


@pytest.mark.parametrize(
    ("settings", "results", "ejected_after"),
    [
        ({"consecutive5xxErrors": 3}, [200, 500, 500, 200, 500, 500, 200, 500], None),
        ({"consecutive5xxErrors": 3}, [200, 500, 500, 200, 500, 500, 500], 7),
        ({"consecutive5xxErrors": 3}, [200, FAILS, 500, 200, 500, FAILS, 200, 500], None),
        ({"consecutiveGatewayErrors": 2, "consecutive5xxErrors": 0}, [200, 503, 200, 503, 404, 503], None),
        ({"consecutiveGatewayErrors": 2, "consecutive5xxErrors": 0}, [200, 503, 404, 503, 503], 5),
        (
            {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2, "consecutive5xxErrors": 0},
            [200, FAILS, 200, FAILS, 200, FAILS],
            None,
        ),
        (
            {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2, "consecutive5xxErrors": 0},
            [200, FAILS, 200, FAILS, FAILS],
            5,
        ),
    ],
)
def test_only_failures_in_a_row_eject_whatever_came_before(settings, results, ejected_after):
    policy = destination_rule("reviews", outlierDetection={"maxEjectionPercent": 100, **settings})
    rule = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}})
    b = Bench(service("reviews"), pod("reviews", "v1", 1), policy, rule)
    for number, result in enumerate(results, 1):
        _, call = b.call(b.script(result, took=0.0))
        (endpoint,) = b.state(call.record.destination.cluster).endpoints.values()
        assert endpoint.ejected == (ejected_after == number), number


def test_addresses_outside_that_callers_dial_are_not_remembered_without_bound(monkeypatch):
    monkeypatch.setattr("meshlib.engine.cluster.MAX_PASSTHROUGH_ENDPOINTS", 5)
    b = bench({"route": [to("reviews")]})
    script = b.script(200)
    for number in range(20):
        _, call = b.call(script, f"http://{number}.example.com/")
    assert script.tried == [f"{number}.example.com:80" for number in range(20)]
    assert len(b.state(call.record.destination.cluster).endpoints) == 5
