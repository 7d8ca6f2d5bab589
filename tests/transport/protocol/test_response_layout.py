"""What heads of responses have in common is known of the next one like them: never more of it than a look at it would say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.sidecar_headers import ProxyHeaders
from meshlib.proxy.server_headers import as_server
from meshlib.transport.protocol import response_layout as module
from meshlib.transport.protocol.head_layout import LONGEST, TIMES
from meshlib.transport.protocol.http1 import FEW_MISSES
from meshlib.transport.protocol.raw_response import RawResponseReader
from meshlib.transport.protocol.received_head import ReceivedHead
from meshlib.transport.protocol.response_layout import LOOKED_AT, ResponseLayout, response_layout_of
from tests.support.fake_clock import FakeClock
from tests.support.shortcuts import NEEDS_SHORTCUTS

USUAL = [b"Server: nginx", b"Date: today", b"X-A: 1", b"Content-Length: 3", b"Connection: keep-alive"]
OTHERS = [b"x-a: 2", b"Content-Type: text/plain", b"ETag: \xe4 ", b"X-Empty:"]
REASONS = [
    b"200 OK",
    b"200 Fine",
    b"201 ",
    b"404 Not Found",
    b"200 a\x01b",
    b"204 No Content",
    b"304 Not Modified",
    b"600 x",
]
SETTINGS = [ProxyHeaders(), ProxyHeaders(server=""), ProxyHeaders(server="a", debug=False)]
ASKED = [b"server", b"date", b"x-a", b"connection", b"content-length", b"x-none", b"x-more"]


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    monkeypatch.setattr(module, "_layouts", {})
    monkeypatch.setattr(module, "_met", {})


def response(lines=USUAL, first=b"200 OK", body=b"abc"):
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (first, b"".join([line + b"\r\n" for line in lines]), body)


def layout_of(lines):
    """None: there is none for heads like these."""
    module._layouts.clear()
    head = ReceivedHead(b"".join([line + b"\r\n" for line in lines]))
    found = [response_layout_of(head.lines, head.shape) for _ in range(TIMES)]
    assert found[:-1] == [None] * (TIMES - 1)
    return found[-1]


def reader_with(layout):
    """One that knows it, and remembers no heads by their bytes for now."""
    reader = RawResponseReader()
    reader._misses = FEW_MISSES
    reader._layout = layout
    reader.begin(False)
    return reader


def said(reader):
    """Of what was read, and of what a proxy makes of it."""
    if reader.error:
        return "an error"
    if not reader.complete:
        return "more is to come"
    head = reader.headers
    made = [head, *[as_server(head, settings, FakeClock()) for settings in SETTINGS]]
    made += [head.plus(b"X-More", b"1"), head.without(b"x-a"), head.instead((b"\r\nx-a:",), b"a: b\r\n")]
    made += [as_server(each, settings, FakeClock()) for each in made for settings in SETTINGS]
    made += [each.with_lines(b"X-More: 1\r\n") for each in made]
    heads = [
        (each.lines, each.passed, each.size, each.sized, each.coded, list(each), [each.says(name) for name in ASKED],
         [each.values(name) for name in ASKED])
        for each in made
    ]  # fmt: skip
    return reader.status, reader.reason, reader.take(), reader.reusable and reader.response_size, head.shape, heads


def as_others_read(data):
    """Byte by byte."""
    reader = RawResponseReader()
    reader.begin(False)
    end = data.find(b"\r\n\r\n") + 4
    for at in range(end):
        reader.feed(data[at : at + 1])
    if data[end:]:
        reader.feed(data[end:])
    return reader


LINES = st.lists(st.sampled_from(OTHERS), max_size=3).flatmap(lambda more: st.permutations([*USUAL, *more]))


@NEEDS_SHORTCUTS
@given(LINES, st.booleans(), st.sampled_from(REASONS))
def test_a_head_like_many_before_is_read_as_byte_by_byte(lines, kept, first):
    if not kept:
        lines = [line for line in lines if line != b"Connection: keep-alive"]
    layout = layout_of(lines)
    data = response([line.replace(b"nginx", b"\t x y ").replace(b"today", b"") for line in lines], first)
    assert layout.match(data) is not None
    assert said(reader_with(layout)) == "more is to come"
    reader = reader_with(layout)
    reader.feed(data)
    assert said(reader) == said(as_others_read(data))


@NEEDS_SHORTCUTS
def test_of_such_a_head_nothing_is_looked_for_on_its_way_to_a_client():
    reader = reader_with(layout_of(USUAL))
    reader.feed(response())
    made = as_server(reader.headers, SETTINGS[0], FakeClock())
    assert reader.headers._lower is made._lower is None
    assert made.passed == b"Date: today\r\nX-A: 1\r\nContent-Length: 3\r\nserver: istio-envoy\r\n"
    assert (
        made.lines == b"Date: today\r\nX-A: 1\r\nContent-Length: 3\r\nConnection: keep-alive\r\nserver: istio-envoy\r\n"
    )
    assert made._count == made.lines.count(b"\n")


@NEEDS_SHORTCUTS
@pytest.mark.parametrize(
    "other",
    [
        response(body=b"abc\r\n"),
        *(response(body=b"ab"), response(body=b"abcd"), response()[:-1], response() + response(), b"\r\n" + response()),
        *(response().replace(b": 3", b": 03"), response().replace(b": 3", b":3"), response().replace(b": 3", b": 3 ")),
        *(response().replace(b"keep-alive", b"close"), response().replace(b"keep-alive", b"keep-alive, x-a")),
        *(response().replace(b"keep-alive", b"Keep-Alive"), response().replace(b"X-A: 1", b"X-A : 1")),
        *(response().replace(b": 1\r\n", b": 1\r\n 2\r\n"), response().replace(b": 1\r\n", b": 1\nX-B: 2\r\n")),
        *(
            response().replace(b": 1", b": \x00"),
            response().replace(b": 1", b": a\rb"),
            response().replace(b": 1", b":"),
        ),
        *(response([*USUAL, b"Transfer-Encoding: chunked"]), response([*USUAL, b"Content-Length: 3"])),
        *(response([*USUAL, b"Server: b"]), response(USUAL[1:]), response().replace(b"1.1", b"1.0")),
        *(response().replace(b"X-A", b"x-a"), response(first=b"099 Odd"), response(first=b"200"), b"nonsense\r\n\r\n"),
        response().replace(b": 1\r\n", b": 1\r\nUpgrade: x\r\n"),
        response([*USUAL[:2], b"X-A: " + b"x" * 70_000, *USUAL[3:]]),
    ],
)
def test_what_is_laid_out_otherwise_or_is_wrong_is_read_as_ever(other):
    reader = reader_with(layout_of(USUAL))
    reader.feed(other)
    assert said(reader) == said(as_others_read(other))


@NEEDS_SHORTCUTS
def test_a_connection_learns_it_of_what_it_has_brought():
    def bring(reader, number):
        reader.begin(False)
        reader.feed(response([*USUAL, b"X-N: %d" % number]))
        assert reader.reusable
        assert reader.headers.lines.endswith(b"X-N: %d\r\n" % number)

    reader = RawResponseReader()
    for number in range(LOOKED_AT * (TIMES + 4)):
        bring(reader, number)
    layout = reader._layout
    assert type(layout) is ResponseLayout
    assert layout.lines == 6
    assert list(module._layouts.values()) == [layout]
    another = RawResponseReader()  # needs one look at it
    bring(another, -1)
    assert another._layout is layout


def test_heads_of_which_more_is_to_be_asked_have_none():
    for lines in (
        *([*USUAL, b"Connection: close"], [*USUAL, b"Upgrade: x"], USUAL[1:], [USUAL[0], *USUAL[2:]]),
        *([*USUAL, b"x-envoy-upstream-service-time: 1"], [*USUAL[:3], USUAL[4]], [*USUAL, b"Server: b"]),
        *([*USUAL, *[b"x-%d: 1" % n for n in range(LONGEST)]], [*USUAL, b"x" * 2000 + b": 1"]),
    ):
        assert layout_of(lines) is None, lines
    assert layout_of(USUAL) is module._layouts[b"Server", b"Date", b"X-A", b"Content-Length", b"Connection"]
