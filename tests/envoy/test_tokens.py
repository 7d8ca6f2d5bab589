"""RequestAuthentications as Envoy's ``jwt_authn``; and tokens through a real one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from meshlib.clock import SystemClock
from meshlib.compiler.token_rules import TokenRules, UnreadTokens
from meshlib.envoy.messages import LISTENER, packed
from meshlib.envoy.rbac import Untranslatable
from meshlib.envoy.tokens import token_filters
from tests.differential.tokens import istiod
from tests.envoy.test_inbound import listener
from tests.support.envoy_engine import require_envoy
from tests.support.inbound_policies import authorization_policy
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand
from tests.support.servers import EchoServer
from tests.support.tokens import issuer

ME = issuer("ES256")


def request_authentication(*rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "jwt", "namespace": "default"},
        "spec": {"jwtRules": list(rules)},
    }


def filter_of(*rules: dict[str, Any]) -> dict[str, Any]:
    made, why = listener(request_authentication(*rules))
    assert (made is not None, why) == (True, "")
    assert made is not None
    packed(LISTENER, made)
    found: dict[str, Any] = made["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]
    assert found["name"] == "envoy.filters.http.jwt_authn"
    config: dict[str, Any] = found["typed_config"]
    return config


def test_rules_are_providers_as_istiod_writes_them() -> None:
    """By the referee's own reading of istiod, of a rule that says all that it can."""
    rule = {
        "issuer": "me",
        "audiences": ["api"],
        "jwks": ME.jwks(),
        "forwardOriginalToken": True,
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"header": "x-group", "claim": "a.group"}],
        "fromHeaders": [{"name": "x-token", "prefix": "T "}],
        "fromParams": ["t"],
        "fromCookies": ["c"],
        "spaceDelimitedClaims": ["roles"],
    }
    made = filter_of(rule)
    assert made["providers"] == {"origins-0": istiod.provider(rule)}
    assert made["rules"][0]["requires"] == istiod.requirement(["origins-0"])


def test_of_several_rules_any_will_do_and_none_need_be_there() -> None:
    made = filter_of({"issuer": "b", "jwks": ME.jwks()}, {"issuer": "a", "jwks": ME.jwks()})
    assert [each["issuer"] for each in made["providers"].values()] == ["a", "b"]
    assert made["rules"][0]["requires"] == istiod.requirement(["origins-0", "origins-1"])


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"issuer": "a", "jwksUri": "https://a.test/keys"}, "https://a.test/keys"),
        ({"issuer": "a", "jwks": '{"keys": []}'}, "no key that can be used"),
    ],
)
def test_rules_whose_keys_are_not_at_hand_let_nobody_in(rule: dict[str, Any], said: str) -> None:
    _, why = listener(request_authentication(rule))
    assert said in why


def test_a_resource_that_cannot_be_read_lets_nobody_in() -> None:
    with pytest.raises(Untranslatable, match="default/jwt cannot be read: why"):
        token_filters(TokenRules((), frozenset(), (UnreadTokens("default/jwt", "why", None),)))
    assert token_filters(None) == []


def test_a_real_one_verifies_tokens_and_policies_ask_for_what_they_say(tmp_path: Path) -> None:
    require_envoy()
    resources = [
        request_authentication({"issuer": "me", "jwks": ME.jwks()}),
        authorization_policy(
            "p",
            "ALLOW",
            {
                "from": [{"source": {"requestPrincipals": ["me/*"]}}],
                "when": [{"key": "request.auth.claims[group]", "values": ["ops"]}],
            },
        ),
    ]
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "more.yaml").write_text("\n---\n".join(map(json.dumps, resources)))
    until = SystemClock.time() + 3600

    def token(**claims: Any) -> str:
        return ME.token({"iss": "me", "sub": "somebody", "exp": until, **claims})

    with EchoServer("app") as app:
        arguments = ("--engine", "envoy", "--inbound", "127.0.0.1:0", "--app", f"127.0.0.1:{app.port}")
        with ProxyCommand(tmp_path, 1, *arguments) as proxy:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", proxy.says(f"serving 127.0.0.1:{app.port}"))
            assert found is not None

            def status(shown: str) -> int:
                with Client(int(found[1])) as client:
                    line = f"Authorization: Bearer {shown}\r\n" if shown else ""
                    client.send(f"GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode())
                    code: int = client.response().status
                    return code

            assert status(token(group="ops")) == 200
            assert status(token(group=["dev", "ops"])) == 200, "a list that has it"
            assert status(token(group="dev")) == 403
            assert status("") == 403
            assert status(token(group="ops", iss="else")) == 401
            forged = issuer("ES256", "b").token(
                {"iss": "me", "sub": "somebody", "exp": until, "group": "ops"}, {"kid": "a"}
            )
            assert status(forged) == 401
