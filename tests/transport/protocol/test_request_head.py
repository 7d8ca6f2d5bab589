"""Heads of requests: written exactly as given, or not at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol import request_head
from meshlib.transport.protocol.request_head import InvalidHead, encode_head

token = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True)
value = st.binary(max_size=30).filter(lambda v: not any((c < 32 and c != 9) or c == 127 for c in v))


@given(token, st.from_regex(rb"/[!-~]{0,20}", fullmatch=True), st.lists(st.tuples(token, value), max_size=8))
def test_a_head_is_written_exactly_as_given(method, target, headers):
    head = encode_head(method, target, headers)
    lines = head.split(b"\r\n")
    assert lines[0] == method + b" " + target + b" HTTP/1.1"
    assert lines[1:-2] == [name + b": " + text for name, text in headers]
    assert head.endswith(b"\r\n\r\n" if headers else b"HTTP/1.1\r\n\r\n")


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_whatever_is_written_is_one_request_with_those_headers_and_no_more(method, target, name, text):
    try:
        head = encode_head(method, target, [(name, text)])
    except InvalidHead:
        return
    assert head.count(b"\n") == 3
    assert head.count(b"\r\n") == 3
    assert head.split(b" ")[1] == target


@pytest.mark.parametrize(
    ("method", "target", "headers", "words"),
    [
        (b"GE T", b"/", [], "method"),
        (b"", b"/", [], "method"),
        (b"GET", b"/a b", [], "target"),
        (b"GET", b"", [], "target"),
        (b"GET", b"/\r\nx: 1", [], "target"),
        (b"GET", b"/", [(b"a:b", b"1")], "header name"),
        (b"GET", b"/", [(b"a", b"1\r\nb: 2")], "header a"),
    ],
)
def test_what_is_wrong_is_named(method, target, headers, words):
    with pytest.raises(InvalidHead, match=words):
        encode_head(method, target, headers)


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    _TOKEN + rb" [^\x00-\x20\x7f]+ HTTP/1\.1\r\n(?:" + _TOKEN + rb": [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n"
)
odd = st.text(alphabet="aZ-:; \t\r\n\x00\x7f\xff", max_size=8).map(lambda text: text.encode("latin-1"))


@given(odd, odd, st.lists(st.tuples(odd, odd), max_size=3))
def test_it_takes_what_one_regex_over_the_whole_head_takes_and_nothing_else(method, target, headers):
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)
    if _HEAD.fullmatch(head) is not None and head.count(b"\n") == len(headers) + 2:
        assert encode_head(method, target, headers) == head
    else:
        with pytest.raises(InvalidHead):
            encode_head(method, target, headers)


def test_only_so_many_names_are_remembered(monkeypatch):
    monkeypatch.setattr(request_head, "_known_names", set())
    for number in range(2 * request_head.KNOWN_NAMES):
        encode_head(b"GET", b"/", [(b"x-%d" % number, b"")])
    assert len(request_head._known_names) == request_head.KNOWN_NAMES
    with pytest.raises(InvalidHead):
        encode_head(b"GET", b"/", [(b"x-0", b""), (b"x 1", b"")])
