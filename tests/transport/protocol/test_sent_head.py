"""Headers that were met before."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.heads_to_send import sent_head_of
from meshlib.transport.protocol.request_head import InvalidHead, encode_head
from meshlib.transport.protocol.sent_head import SentHead

HEADERS = [(b"Host", b"reviews:9080"), (b"X-Key", b"s3cret")]


def test_a_head_is_its_headers_and_shows_none_of_them():
    head = sent_head_of(HEADERS)
    assert type(head) is SentHead
    assert list(head) == HEADERS
    assert repr(head) == "<SentHead 2 headers>"


@pytest.mark.parametrize(
    ("method", "target"), [(b"GET", b""), (b"GET", b"/a b"), (b"GET", b"/\r\n"), (b"G T", b"/"), (b"", b"/")]
)
def test_what_is_wrong_beside_the_headers_is_refused_as_ever(method, target):
    head = sent_head_of(HEADERS)
    assert head is not None
    with pytest.raises(InvalidHead):
        encode_head(method, target, head)
