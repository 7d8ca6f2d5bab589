"""A client's connection that its requests belong to, on any port that judges them or leads them elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.proxy.http1_downstream import Http1Downstream
from meshlib.proxy.http1_laid_out import Http1LaidOut
from meshlib.proxy.http2_downstream import Http2Downstream
from meshlib.proxy.http_connection import HttpConnection, ServedConnection, deadline_of
from meshlib.proxy.http_version import HttpVersion
from meshlib.proxy.refusals import RefusedRequest
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.runtimes.serving import DEADLINE_NAMES


class Listener:
    """Hears what it is told."""

    def __init__(self, overload=None):
        self.said = []
        self.ids = None
        self.draining = False
        self.overload = overload
        self.forwarder = SimpleNamespace(turn=None, core="core", loop=SimpleNamespace(time=lambda: 0.0))

    def __getattr__(self, name):
        return lambda *told: self.said.append((name, *told))


class Full:
    """Takes no request."""

    def refuses_request(self):
        return True


class Client:
    def __init__(self):
        self.statuses = []

    def respond(self, status, reason, headers, whole, trailers):
        self.statuses.append(status)


class Judged(ServedConnection):
    def _serve(self, request, responder):
        return f"{request} served"

    def _turned_away(self, request):
        self._listener.said.append(("turned away", request))


def test_its_requests_come_back_to_it_and_all_else_is_its_listeners():
    listener = Listener()
    connection = HttpConnection(listener, b"proto")
    assert (connection.forwarder, connection.core, connection.tunnels) == (connection, "core", None)
    assert connection.draining is False
    listener.draining = True
    assert connection.draining is True
    connection.opened(1)
    connection.passed_on(2)
    connection.closed(3)
    connection.refused("refused", "client", None)
    connection.broken("why", False, "client", True)
    assert listener.said == [
        ("opened", 1),
        ("passed_on", 2),
        ("closed", 3),
        ("refused", "refused", "client", None),
        ("broken", "why", False, "client", True),
    ]


@pytest.mark.parametrize(("version", "kind"), [(HttpVersion.HTTP1, Http1LaidOut), (HttpVersion.HTTP2, Http2Downstream)])
def test_it_is_read_by_the_version_that_it_speaks(version, kind):
    assert type(HttpConnection(Listener(), b"").reader(version)) is kind


def test_requests_that_have_to_be_of_a_kind_of_its_own_are():
    class Other(HttpConnection[Any]):
        request_type = RefusedRequest

    reader = Other(Listener(), b"").reader(HttpVersion.HTTP1)
    assert (type(reader), reader._makes) == (Http1Downstream, RefusedRequest)


def test_requests_are_judged_and_turned_away_where_there_is_too_much_to_do():
    assert Judged(Listener(), b"").forward("a", Client()) == "a served"
    listener, client = Listener(Full()), Client()
    assert Judged(listener, b"").forward("a", client) is None
    assert (listener.said, client.statuses) == ([("turned away", "a")], [503])


def test_when_a_caller_gives_up_is_what_the_first_header_says_that_can_be_read():
    server = SimpleNamespace(
        deadline_names=lambda: ("x-envoy-expected-rq-timeout-ms", "grpc-timeout"),
        clock=SimpleNamespace(monotonic=lambda: 10.0),
    )
    said = {"grpc-timeout": "2S", "x-envoy-expected-rq-timeout-ms": "soon"}
    assert deadline_of(SimpleNamespace(header=said.get), server) == 12.0
    assert deadline_of(SimpleNamespace(header=lambda name: None), server) is None


@pytest.mark.parametrize(
    ("line", "by"),
    [
        ("a: b", None),
        ("grpc-timeout: 2S", 12.0),
        ("X-Request-Deadline: 500", 10.5),
        ("x-request-deadline: soon", None),
        ("x-request-deadline:", None),
    ],
)
def test_without_a_resilience_policy_two_headers_say_when(line, by):
    server = SimpleNamespace(deadline_names=lambda: DEADLINE_NAMES, clock=SimpleNamespace(monotonic=lambda: 10.0))
    lines = b"host: a\r\n" + line.encode() + b"\r\n"
    request = ProxyRequest(b"GET", b"a", b"/", lines, b"\r\n" + lines.lower(), None)
    assert deadline_of(request, server) == by
