"""A user's client when calls fail: httpx's own exceptions with what the mesh did, or the response that Envoy would send."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib import errors
from tests.support.http_caller import Caller, reviews
from tests.support.resources import to


@pytest.fixture
def late():
    """Behaviour of a server: it answers when the test is over."""
    over = threading.Event()

    def behave(handler: Any) -> bool:
        over.wait(60)
        return False

    yield behave
    over.set()


def test_a_dead_upstream_raises_connect_error_after_retries(runtime):
    port = free_port()
    with meshlib.Mesh.from_resources(reviews(port, port)) as mesh:
        with pytest.raises(httpx.ConnectError) as caught:
            Caller(runtime, mesh).get("http://reviews:9080/x")
    error = caught.value
    assert isinstance(error, errors.ConnectFailed)
    assert error.exchange.flags == "UF,URX"
    assert len(error.exchange.attempts) == 3
    assert str(error).startswith("GET http://reviews:9080/x: no connection to 127.0.0.1")
    assert "VirtualService/default/reviews http[0]" in str(error)


def test_respond_answers_what_envoy_would_for_a_dead_upstream(runtime):
    port = free_port()
    with meshlib.Mesh.from_resources(reviews(port, port)) as mesh:
        response = Caller(runtime, mesh, local_replies="respond").get("http://reviews:9080/x")
    assert response.status_code == 503
    assert response.text == (
        "upstream connect error or disconnect/reset before headers. "
        "retried and the latest reset reason: remote connection failure"
    )
    assert response.extensions["mesh"].flags == "UF,URX"


def test_a_route_timeout_raises_read_timeout_or_answers_504(runtime, servers, late):
    one, two = servers
    one.behave = late
    resources = reviews(one.port, two.port, {"route": [to("reviews", "v1")], "timeout": "100ms"})
    with meshlib.Mesh.from_resources(resources) as mesh:
        with pytest.raises(httpx.ReadTimeout) as caught:
            Caller(runtime, mesh).get("http://reviews:9080/")
        assert isinstance(caught.value, errors.UpstreamTimeout)
        assert caught.value.exchange.flags == "UT"
        response = Caller(runtime, mesh, local_replies="respond").get("http://reviews:9080/")
        assert (response.status_code, response.text) == (504, "upstream request timeout")


def test_the_callers_own_timeout_raises_read_timeout_in_both_modes(runtime, servers, late):
    one, two = servers
    one.behave = late
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        for mode in ("raise", "respond"):
            with pytest.raises(httpx.ReadTimeout) as caught:
                Caller(runtime, mesh, local_replies=mode, timeout=httpx.Timeout(60, read=0.1)).get(
                    "http://reviews:9080/"
                )
            assert caught.value.exchange.flags == "DC"


@pytest.mark.parametrize("mode", ["raise", "respond"])
def test_what_a_policy_answers_is_a_response_in_both_modes(runtime, mode, servers):
    one, two = servers
    rule = {
        "route": [to("reviews", "v1")],
        "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
    }
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, rule)) as mesh:
        response = Caller(runtime, mesh, local_replies=mode).get("http://reviews:9080/")
    assert (response.status_code, response.text) == (418, "fault filter abort")
    assert response.headers["content-type"] == "text/plain"


def test_unknown_hosts_pass_through_to_dns(runtime, servers):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        response = Caller(runtime, mesh).get(f"http://localhost:{two.port}/direct")
        assert response.json()["server"] == "v2"
        assert response.extensions["mesh"].host == "PassthroughCluster"
        with pytest.raises(httpx.ConnectError, match="was not found"):
            Caller(runtime, mesh).get("http://no-such-host.invalid/")


def test_a_bad_local_replies_mode_is_refused():
    with meshlib.Mesh.from_resources([]) as mesh, pytest.raises(ValueError, match="'raise' or 'respond'"):
        mesh.http_transport(local_replies="no")


def test_a_closed_mesh_refuses_calls_clearly(servers):
    one, two = servers
    mesh = meshlib.Mesh.from_resources(reviews(one.port, two.port))
    client = mesh.client()
    client.get("http://reviews:9080/")
    mesh.close()
    mesh.close()
    with pytest.raises(errors.MeshClosed, match="closed"):
        client.get("http://reviews:9080/")
