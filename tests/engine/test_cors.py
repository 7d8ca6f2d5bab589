"""corsPolicy: preflights are answered here, actual requests get the headers a browser needs and are never blocked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import meshlib
from tests.support.resources import pod, service, to, virtual_service

POLICY: dict[str, Any] = {
    "allowOrigins": [{"exact": "https://a.test"}, {"regex": r"https://.*\.b\.test"}],
    "allowMethods": ["GET", "PUT"],
    "allowHeaders": ["x-one", "x-two"],
    "exposeHeaders": ["x-back", "x-front"],
    "maxAge": "90s",
    "allowCredentials": True,
}


def call(policy: dict[str, Any], method: str = "GET", answer: int = 200, rule: Any = None, **headers: str):
    """(how many requests reached the service, the response)."""
    seen = []

    def upstream(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(answer, headers={"access-control-allow-origin": "upstream", "x-back": "1"})

    resources = [
        service("reviews"),
        pod("reviews", "v1", 1),
        virtual_service("reviews", {"corsPolicy": policy, **(rule or {"route": [to("reviews")]})}),
    ]
    with meshlib.Mesh.from_resources(resources) as mesh:
        assert [p for p in mesh.problems if p.code == "no-effect"] == []
        with mesh.client(transport=httpx.MockTransport(upstream)) as client:
            response = client.request(
                method, "http://reviews:9080/", headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
    return len(seen), response


def preflight(policy: dict[str, Any], origin: str = "https://a.test", **headers: str):
    return call(policy, "OPTIONS", origin=origin, access_control_request_method="PUT", **headers)


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {k.removeprefix("access-control-"): v for k, v in response.headers.items() if k.startswith("access-c")}


def test_a_preflight_of_an_allowed_origin_is_answered_here():
    reached, response = preflight(POLICY)
    assert (reached, response.status_code, response.content) == (0, 200, b"")
    assert cors_headers(response) == {
        "allow-origin": "https://a.test",
        "allow-credentials": "true",
        "allow-methods": "GET,PUT",
        "allow-headers": "x-one,x-two",
        "max-age": "90",
        "expose-headers": "x-back,x-front",
    }


def test_a_star_echoes_what_the_preflight_asks_for():
    policy = {"allowOrigins": [{"exact": "*"}], "allowMethods": ["*"], "allowHeaders": ["*"]}
    _, response = preflight(policy, "https://x.test", access_control_request_headers="a,b")
    assert cors_headers(response) == {"allow-origin": "https://x.test", "allow-methods": "PUT", "allow-headers": "a,b"}


def test_a_preflight_of_another_origin_goes_to_the_service():
    reached, response = preflight(POLICY, "https://evil.test")
    assert (reached, cors_headers(response)) == (1, {"allow-origin": "upstream"})


def test_a_preflight_of_another_origin_may_be_answered_without_permission():
    reached, response = preflight({**POLICY, "unmatchedPreflights": "IGNORE"}, "https://evil.test")
    assert (reached, response.status_code) == (0, 200)
    assert "allow-origin" not in cors_headers(response)


@pytest.mark.parametrize("headers", [{}, {"origin": "https://a.test"}, {"access_control_request_method": "PUT"}])
def test_an_options_request_that_is_no_preflight_goes_to_the_service(headers):
    assert call(POLICY, "OPTIONS", **headers)[0] == 1


@pytest.mark.parametrize("origin", ["https://a.test", "https://x.b.test"])
def test_an_actual_request_gets_the_headers_in_place_of_the_services(origin):
    reached, response = call(POLICY, origin=origin)
    assert reached == 1
    assert cors_headers(response) == {
        "allow-origin": origin,
        "allow-credentials": "true",
        "expose-headers": "x-back,x-front",
    }


@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.test"}, {"origin": "https://b.test"}])
def test_a_request_from_elsewhere_is_neither_blocked_nor_marked(headers):
    reached, response = call(POLICY, **headers)
    assert (reached, cors_headers(response)) == (1, {"allow-origin": "upstream"})


def test_without_allowed_origins_none_is():
    assert cors_headers(call({"allowMethods": ["GET"]}, origin="https://a.test")[1]) == {"allow-origin": "upstream"}


def test_the_old_list_of_origins_counts():
    _, response = call({"allowOrigin": ["https://old.test"]}, origin="https://old.test")
    assert cors_headers(response) == {"allow-origin": "https://old.test"}


def test_a_rule_that_answers_itself_has_no_policy_as_in_envoy():
    _, response = call(POLICY, rule={"redirect": {"uri": "/x"}}, origin="https://a.test")
    assert (response.status_code, cors_headers(response)) == (301, {})


def test_a_fault_comes_before_the_policy_is_asked():
    fault = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}
    _, response = call(POLICY, rule={"route": [to("reviews")], "fault": fault}, origin="https://a.test")
    assert (response.status_code, cors_headers(response)) == (418, {})
