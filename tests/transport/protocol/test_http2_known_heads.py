"""Heads of requests that differ in their targets alone are read once, and read as any other."""

from __future__ import annotations

import ngh2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol import http2_known_heads as module
from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.http2_known_heads import AGAIN, LONG_TARGET, STRANGE, KnownHeads
from meshlib.transport.protocol.http2_request import read_head
from meshlib.transport.protocol.shortcuts import PLAIN

pytestmark = pytest.mark.skipif(PLAIN, reason="then each head is read")

GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))


def headers(path=b"/a", *fields, method=b"POST", authority=b"a", scheme=b"http"):
    return (
        (b":method", method),
        (b":scheme", scheme),
        (b":path", path),
        (b":authority", authority),
        *(fields or GRPC),
    )


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    seen = HeadsSeen()
    monkeypatch.setattr(module, "_seen", seen)
    monkeypatch.setattr(module, "_of", seen.of)


@pytest.fixture
def read(monkeypatch):
    """The heads that were read one by one."""
    seen = []
    monkeypatch.setattr(module, "read_head", lambda *given: seen.append(given[0]) or read_head(*given))
    return seen


def test_a_head_that_comes_again_is_read_twice_whatever_its_target(read):
    heads = KnownHeads(False)
    for number in range(10):
        target = b"/a?%d" % number
        assert heads.read(headers(target)) == read_head(headers(target))
    assert len(read) == 3  # once to find where targets stand, and once more to see that it comes again
    assert KnownHeads(False).read(headers(b"/other")).target == b"/other"
    assert len(read) == 4


TARGETS = st.sampled_from(
    [b"/", b"/a", b"/a?b", b"*", b"", b"a", b"/a#b", b"/\xff", b"/a b", b"http://b/a", b"//", b"/%00"]
)
FIELDS = st.lists(
    st.sampled_from(
        [
            *GRPC,
            (b"te", b"Trailers"),
            (b"host", b"a"),
            (b"host", b"b"),
            (b"content-length", b"3"),
            (b"content-length", b"x"),
            (b"content-type", b"application/grpc+proto"),
            (b"cookie", b"a=b"),
            (b"authorization", b"secret"),
            (b"expect", b"100-continue"),
            (b"x-envoy-a", b"1"),
            (b"x", b"y"),
            ngh2.NeverIndexedHeader(b"x", b"y"),
        ]
    ),
    max_size=4,
)
METHODS = st.sampled_from([b"GET", b"POST", b"QUERY", b"OPTIONS"])


@given(
    st.lists(
        st.tuples(TARGETS, FIELDS, METHODS, st.sampled_from([b"a", b"b c"]), st.sampled_from([b"http", b"ftp"])),
        min_size=1,
    ),
    st.permutations(range(4)),
)
def test_whatever_came_before_it_reads_as_one_that_nobody_has_met(asked, order):
    heads = KnownHeads(False)
    for target, fields, method, authority, scheme in asked * 3:
        came = headers(target, *fields, method=method, authority=authority, scheme=scheme)
        came = (*(came[at] for at in order), *came[4:])
        got, one = heads.read(came), read_head(came)
        assert got == one
        assert list(map(type, got.fields)) == list(map(type, one.fields))  # what no table may keep, none keeps


@pytest.mark.parametrize(
    "secret", [(b"authorization", b"Bearer x"), (b"cookie", b"a=b"), ngh2.NeverIndexedHeader(b"x-token", b"secret")]
)
def test_no_secret_is_kept(secret):
    heads = KnownHeads(False)
    for _ in range(5):
        heads.read(headers(b"/", secret))
    assert not module._seen._known
    assert not heads._recent


def test_a_target_that_is_long_or_odd_is_looked_at_with_its_head(read):
    heads = KnownHeads(False)
    for _ in range(3):
        heads.read(headers())
    del read[:]
    heads.read(headers())
    assert read == []
    for target in (b"/" + b"a" * LONG_TARGET, b"/#", b"*", b"/\xff"):
        assert heads.read(headers(target)) == read_head(headers(target))
    assert len(read) == 4


def test_a_connection_whose_heads_differ_is_asked_seldom_and_keeps_none(read):
    asked = []
    module._of = lambda key: asked.append(key)
    heads = KnownHeads(False)
    for number in range(STRANGE + AGAIN - 3):
        heads.read(headers(b"/", (b"traceparent", b"%d" % number)))
    assert len(asked) == STRANGE - 1  # the first one has told where targets stand
    assert not heads._recent
    for number in range(10):
        heads.read(headers(b"/", (b"traceparent", b"%d" % number)))
    assert STRANGE <= len(asked) <= STRANGE + 3


def test_one_that_begins_to_send_the_same_again_is_known_in_the_end(read):
    heads = KnownHeads(False)
    for number in range(STRANGE + 5):
        heads.read(headers(b"/", (b"traceparent", b"%d" % number)))
    for _ in range(AGAIN + 5):
        heads.read(headers())
    del read[:]
    heads.read(headers())
    assert read == []


def test_a_head_of_fewer_headers_than_a_request_has_is_read_too():
    connect = ((b":method", b"CONNECT"), (b":authority", b"a:80"))
    for heads, tunnels in ((KnownHeads(True), True), (KnownHeads(False), False)):
        for _ in range(3):
            assert heads.read(connect) == read_head(connect, tunnels)
