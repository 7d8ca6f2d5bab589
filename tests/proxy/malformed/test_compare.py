"""What counts as laxer than Envoy, stricter, or the same."""

from __future__ import annotations

import pytest

from tests.proxy.malformed.asking import Result
from tests.proxy.malformed.compare import Verdict, verdict
from tests.proxy.malformed.upstream import Garbage, Message, read

PLAIN = Message(b"GET", b"/a", ((b"host", b"shop00"), (b"x", b"1")), "none", b"", (), b"")
FORWARDED = Result((200,), "closed", (PLAIN,), (), True)
REFUSED = Result((400,), "closed")
WAITS = Result((), "wait")


@pytest.mark.parametrize(
    ("envoys", "ours", "expected"),
    [
        (FORWARDED, FORWARDED, Verdict.SAME),
        (REFUSED, REFUSED, Verdict.SAME),
        (REFUSED, Result((), "closed"), Verdict.SAME),
        (WAITS, WAITS, Verdict.SAME),
        (FORWARDED, REFUSED, Verdict.STRICTER),
        (FORWARDED, FORWARDED._replace(in_step=False), Verdict.STRICTER),
        (WAITS, REFUSED, Verdict.STRICTER),
        (REFUSED, Result((431,), "closed"), Verdict.OTHER),
        (REFUSED, FORWARDED, Verdict.LAXER),
        (REFUSED, Result((404,), "closed", in_step=True), Verdict.LAXER),
        (REFUSED, Result((200,), "closed", (), (b"two lengths",)), Verdict.LAXER),
        (FORWARDED, FORWARDED._replace(upstream=(PLAIN, PLAIN)), Verdict.LAXER),
        (FORWARDED, FORWARDED._replace(upstream=(PLAIN._replace(target=b"/b"),)), Verdict.LAXER),
        (FORWARDED, FORWARDED._replace(upstream=(PLAIN._replace(headers=PLAIN.headers[:1]),)), Verdict.LAXER),
        (FORWARDED, FORWARDED._replace(upstream=(PLAIN._replace(framing="chunks"),)), Verdict.LAXER),
        (FORWARDED, FORWARDED._replace(upstream=(PLAIN._replace(surplus=b"GET"),)), Verdict.LAXER),
        (Result((502,), "closed"), Result((502, 200), "closed", (PLAIN,), (), True), Verdict.OTHER),
        (Result((502,), "closed"), Result((200,), "closed", (PLAIN,), (), True), Verdict.LAXER),
        (REFUSED, WAITS, Verdict.HANG),
        (FORWARDED, WAITS, Verdict.HANG),
        (FORWARDED, Result((200,), "open", (PLAIN,)), Verdict.HANG),
    ],
)
def test_a_verdict(envoys: Result, ours: Result, expected: Verdict) -> None:
    assert verdict(envoys, ours)[0] is expected


def test_the_order_of_headers_of_different_names_says_nothing_and_of_one_name_does() -> None:
    turned = FORWARDED._replace(upstream=(PLAIN._replace(headers=PLAIN.headers[::-1]),))
    assert verdict(FORWARDED, turned)[0] is Verdict.SAME
    one, two = (((b"x", a), (b"x", b)) for a, b in ((b"1", b"2"), (b"2", b"1")))
    envoys = FORWARDED._replace(upstream=(PLAIN._replace(headers=one),))
    assert verdict(envoys, FORWARDED._replace(upstream=(PLAIN._replace(headers=two),)))[0] is Verdict.LAXER


def test_the_upstream_reads_one_request_and_keeps_what_is_behind_it() -> None:
    head = b"POST /a HTTP/1.1\r\nHost: shop00\r\n"
    sized = read(head + b"Content-Length: 2\r\n\r\nhiGET")
    assert sized is not None
    assert (sized.framing, sized.body, sized.surplus) == ("length", b"hi", b"GET")
    chunked = read(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\nGET")
    assert chunked is not None
    assert (chunked.framing, chunked.body, chunked.trailers, chunked.surplus) == (
        "chunks",
        b"hi",
        ((b"x", b"y"),),
        b"GET",
    )
    assert read(head + b"Content-Length: 3\r\n\r\nhi") is None
    assert read(head) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    ],
)
def test_the_upstream_takes_nothing_else_for_a_request(data: bytes) -> None:
    with pytest.raises(Garbage):
        read(data)
