"""What a proxy adds to every response."""

from __future__ import annotations

import pytest

from meshlib.policy.sidecar_headers import ProxyHeaders
from meshlib.proxy.server_headers import as_server
from meshlib.transport.protocol.received_head import SERVICE_TIME, ReceivedHead
from tests.support.fake_clock import FakeClock


class AtSix(FakeClock):
    def time(self) -> float:
        return 784_111_777.0 + self.now - FakeClock().now


DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")


def test_who_has_sent_it_and_when():
    assert as_server([(b"A", b"1")], ProxyHeaders(), AtSix()) == [(b"A", b"1"), DATE, (b"server", b"istio-envoy")]


def test_in_place_of_what_the_application_calls_itself_but_with_its_date():
    headers = [(b"Server", b"nginx"), (b"DATE", b"today"), (b"SeRvEr", b"x")]
    assert as_server(headers, ProxyHeaders(), AtSix()) == [(b"DATE", b"today"), (b"server", b"istio-envoy")]


def test_the_application_may_keep_its_name():
    headers = [(b"Server", b"nginx")]
    assert as_server(headers, ProxyHeaders(server=""), AtSix()) == [(b"Server", b"nginx"), DATE]


def test_how_long_it_took_can_be_left_out():
    headers = [(b"X-Envoy-Upstream-Service-Time", b"3")]
    found = as_server(headers, ProxyHeaders(debug=False), AtSix())
    assert found == [DATE, (b"server", b"istio-envoy")]
    assert as_server(headers, ProxyHeaders(), AtSix())[0] == headers[0]


def test_the_date_goes_on_with_the_clock():
    clock = AtSix()
    first = dict(as_server([], ProxyHeaders(), clock))[b"date"]
    clock.now += 1
    assert (first, dict(as_server([], ProxyHeaders(), clock))[b"date"][-6:]) == (DATE[1], b"38 GMT"[-6:])


@pytest.mark.parametrize("settings", [ProxyHeaders(), ProxyHeaders(server="", debug=False)])
@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Server: a\r\n",
        b"A: 1\r\nServer: a\r\nserver: b\r\nConnection: keep-alive\r\nB: 2\r\n",
        b"Content-Length: 3\r\nDATE: today\r\nX-Envoy-Upstream-Service-Time: 1\r\nX-Server: no\r\n",
    ],
)
def test_of_a_head_that_is_bytes_they_are_the_same(settings, lines):
    found = as_server(ReceivedHead(lines), settings, AtSix())
    assert list(found) == as_server(ReceivedHead(lines).pairs, settings, AtSix())
    assert found.sized == (b"Length" in lines)
    assert found.size == sum(len(name) + len(value) for name, value in found)
    assert b"onnection" not in found.passed
    assert b"".join(b"%b: %b\r\n" % pair for pair in found if pair[0] != b"Connection") == found.passed


def test_a_line_that_was_added_to_them_can_be_left_out_as_well():
    head = ReceivedHead(b"A: 1\r\n").plus(b"x-envoy-upstream-service-time", b"3").plus(b"Server", b"x")
    assert list(as_server(head, ProxyHeaders(server="y", debug=False), AtSix())) == [
        (b"A", b"1"),
        DATE,
        (b"server", b"y"),
    ]


@pytest.mark.parametrize("settings", [ProxyHeaders(), ProxyHeaders(debug=False), ProxyHeaders(server="")])
def test_how_long_it_took_is_said_where_that_is_wanted(settings):
    said = [(SERVICE_TIME, b"3")] if settings.debug else []
    for lines in (b"A: 1\r\n", b"A: 1\r\nDate: today\r\n", b"Date: today\r\nServer: x\r\n"):
        found = as_server(ReceivedHead(lines), settings, AtSix(), 3.9)
        assert list(found) == as_server(ReceivedHead(lines).pairs, settings, AtSix(), 3.9)
        assert list(found)[-1:] == said or not said


def test_a_head_that_comes_again_is_told_as_it_was_and_by_the_settings_of_now():
    head = ReceivedHead(b"Date: today\r\nServer: x\r\nA: 1\r\n")
    assert dict(as_server(head, ProxyHeaders(), AtSix(), 3.0))[SERVICE_TIME] == b"3"
    assert dict(as_server(head, ProxyHeaders(), AtSix(), 4.0))[SERVICE_TIME] == b"4"
    assert dict(as_server(head, ProxyHeaders(server="y"), AtSix()))[b"server"] == b"y"
    assert list(head) == [(b"Date", b"today"), (b"Server", b"x"), (b"A", b"1")]


def test_one_without_a_date_gets_that_of_its_own_time():
    head, clock = ReceivedHead(b"A: 1\r\n"), AtSix()
    first = as_server(head, ProxyHeaders(), clock)
    clock.now += 1
    assert dict(first)[b"date"] != dict(as_server(head, ProxyHeaders(), clock))[b"date"]
