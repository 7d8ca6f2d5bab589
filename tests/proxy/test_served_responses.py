"""What a client gets of responses to requests that were judged before they were forwarded."""

from __future__ import annotations

import pytest

from meshlib.policy.sidecar_headers import ProxyHeaders
from meshlib.proxy.served_responses import ServedResponses
from meshlib.transport.protocol.received_head import UNTOLD, ReceivedHead
from tests.support.fake_clock import FakeClock

SETTINGS = ProxyHeaders()
LINES = b"server: nginx\r\ndate: today\r\ncontent-length: 2\r\n"
SHOWN = [(b"date", b"today"), (b"content-length", b"2"), (b"server", b"istio-envoy")]


class Client:
    """Notes what it is told."""

    writable = True

    def __init__(self):
        self.heard = []

    def __getattr__(self, name):
        return lambda *told: self.heard.append((name, told))


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def responses(client):
    made = ServedResponses(client, FakeClock())
    made.settings = SETTINGS
    return made


def test_one_that_is_passed_on_says_who_has_sent_it_and_how_long_it_took(responses, client):
    responses.pass_on(200, b"OK", ReceivedHead(LINES), b"took: 1\r\n", b"hi")
    (name, (status, reason, head, more, whole)) = client.heard.pop()
    assert (name, status, reason, more, whole) == ("pass_on", 200, b"OK", b"took: 1\r\n", b"hi")
    assert head.pairs == SHOWN


def test_a_head_that_comes_again_is_made_once_for_the_same_settings(responses, client):
    head = ReceivedHead(LINES)
    head.told = UNTOLD  # as of a head that is remembered
    for _ in range(3):
        responses.pass_on(200, b"OK", head, b"", b"hi")
    first, second, third = (told[2] for _, told in client.heard)
    assert second is third
    assert first.pairs == second.pairs == SHOWN
    responses.settings = ProxyHeaders(server="mine")
    responses.pass_on(200, b"OK", head, b"", b"hi")
    assert client.heard[-1][1][2].pairs[-1] == (b"server", b"mine")


@pytest.mark.parametrize(("says", "more"), [("respond", (b"hi", None)), ("begin", ()), ("switch", ("upstream",))])
def test_so_does_any_other_head(responses, client, says, more):
    getattr(responses, says)(200, b"OK", ReceivedHead(LINES), *more)
    name, (status, reason, head, *rest) = client.heard.pop()
    assert (name, status, reason, tuple(rest)) == (says, 200, b"OK", more)
    assert head.pairs == SHOWN


@pytest.mark.parametrize(("says", "told"), [("write", (b"x",)), ("end", (None,)), ("cut", ())])
def test_all_else_is_for_the_client_as_it_is(responses, client, says, told):
    getattr(responses, says)(*told)
    assert client.heard == [(says, told)]
    assert responses.writable
