"""What a head says without being asked: no body, and nothing of its connection."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.http1_head import FramedHead, RequestHead


@pytest.mark.parametrize("kind", [RequestHead, FramedHead])
def test_a_head_says_of_no_body_and_asks_for_nothing_until_somebody_has_found_it(kind):
    head = kind(b"GET", b"/", b"Host: a\r\n", b"\r\nhost: a\r\n", b"a", [b"host:"])
    assert (head.length, head.close, head.upgrade, head.expects_continue) == (0, False, b"", False)
    assert (head.method, head.target, head.host, head.special) == (b"GET", b"/", b"a", [b"host:"])


def test_only_a_framed_head_can_say_more():
    framed, other = (kind(b"GET", b"/", b"", b"\r\n", b"a", []) for kind in (FramedHead, RequestHead))
    framed.length = None
    assert (framed.length, other.length) == (None, 0)
    with pytest.raises(AttributeError):
        other.close = True
