"""Where a request wants to go: by its target, or by Host; 4xx for what names nothing, or two things."""

from __future__ import annotations

import pytest

from meshlib.proxy.destination import connect_authority, destination
from meshlib.transport.protocol.http1_request import Refused, RequestReader


def destination_of(target: bytes, host: bytes = b"shop:80", method: bytes = b"GET") -> tuple[bytes, bytes]:
    reader = RequestReader()
    reader.feed(b"%b %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (method, target, host))
    head = reader.head()
    assert head is not None
    return destination(head, "BASE")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (b"/a?b", (b"shop:80", b"/a?b")),
        (b"//other/a", (b"shop:80", b"//other/a")),
        (b"/http://other/", (b"shop:80", b"/http://other/")),
        (b"http://other/a?b", (b"other", b"/a?b")),
        (b"HTTP://Other:8080", (b"Other:8080", b"/")),
        (b"http://127.0.0.1:1/", (b"127.0.0.1:1", b"/")),
        (b"http://[::1]/../a", (b"[::1]", b"/a")),
    ],
)
def test_a_url_names_its_host_and_a_path_is_for_host(target: bytes, found: tuple[bytes, bytes]) -> None:
    assert destination_of(target) == found


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        (b"a", b"GET", 400),
        (b"*", b"GET", 400),
        (b"http://" + b"a" * 262 + b"/", b"GET", 400),
        (b"*", b"OPTIONS", 404),
        (b"?a", b"GET", 400),
        (b"ftp://shop/", b"GET", 400),
        (b"https://shop/", b"GET", 400),
        (b"http:/shop/", b"GET", 400),
        (b"http:///a", b"GET", 400),
        (b"http://?a", b"GET", 400),
        (b"http://shop?a", b"GET", 404),
        (b"http://u@shop/", b"GET", 400),
        (b"http://shop:/", b"GET", 400),
        (b"http://shop:-1/", b"GET", 400),
        (b"http://shop:65536/", b"GET", 400),
        (b"http://shop:80:80/", b"GET", 400),
        (b"http://shop:080/", b"GET", 400),
        (b"http://shop:0/", b"GET", 400),
        (b"http://sh%6fp/", b"GET", 400),
        (b"http://sh_op/", b"GET", 400),
        (b"http://shop\\other/", b"GET", 400),
        (b"http://[shop]/", b"GET", 400),
        (b"http://::1/", b"GET", 400),
        (b"http://shop/%00", b"GET", 400),
        (b"/", b"CONNECT", 400),
        (b"shop:80", b"CONNECT", 501),
    ],
)
def test_a_target_that_names_no_host_and_path_is_refused(target: bytes, method: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        destination_of(target, method=method)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a,b", b"u@a", b"a/b", b"a:b", b"[shop]", b"a:", b":80", b"a:080", b"a:0", b"a" * 300]
)
def test_a_host_that_is_not_one_is_refused(host: bytes) -> None:
    with pytest.raises(Refused) as refused:
        destination_of(b"/", host)
    assert refused.value.status == 400


def connects_to(target: bytes, host: bytes | None = None, *more: bytes) -> bytes:
    reader = RequestReader()
    lines = b"".join(line + b"\r\n" for line in (b"Host: " + (target if host is None else host), *more))
    reader.feed(b"CONNECT %b HTTP/1.1\r\n%b\r\n" % (target, lines))
    head = reader.head()
    assert head is not None
    return connect_authority(head)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"db.test:5432", b"db.test:5432"),
        (b"db.test:5432", b"db.test"),
        (b"DB.test:5432", b"db.TEST:5432"),
        (b"db_1:1", b"db_1:1"),
        (b"db.test.:65535", b"db.test.:65535"),
        (b"127.0.0.1:443", b"127.0.0.1:443"),
        (b"[::1]:443", b"[::1]:443"),
    ],
)
def test_connect_names_a_host_and_a_port(target: bytes, host: bytes) -> None:
    assert connects_to(target, host) == target


@pytest.mark.parametrize(
    "target",
    [
        b"db.test",
        b"db.test:",
        b":443",
        b"db.test:0",
        b"db.test:0443",
        b"db.test:65536",
        b"db.test:443:443",
        b"db.test:https",
        b"db..test:443",
        b"-db.test:443",
        b"user@db.test:443",
        b"db.test:443/",
        b"/db.test:443",
        b"http://db.test:443",
        b"d%62.test:443",
        b"::1:443",
        b"[::1]443",
        b"[1:2]:443",
        b"[127.0.0.1]:443",
        b"[]:443",
        b"*:443",
        b"a" * 256 + b":443",
    ],
)
def test_connect_to_what_is_not_one_host_and_one_port_is_refused(target: bytes) -> None:
    with pytest.raises(Refused) as refused:
        connects_to(target, b"db.test:443")
    assert refused.value.status == 400
    with pytest.raises(Refused) as refused:
        connects_to(target)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("host", "more"),
    [
        (b"other.test:443", ()),
        (b"db.test:444", ()),
        (b"", ()),
        (b"db.test:443", (b"Content-Length: 3",)),
        (b"db.test:443", (b"Transfer-Encoding: chunked",)),
        (b"db.test:443", (b"Connection: upgrade", b"Upgrade: websocket")),
    ],
)
def test_connect_that_says_two_things_is_refused(host: bytes, more: tuple[bytes, ...]) -> None:
    with pytest.raises(Refused) as refused:
        connects_to(b"db.test:443", host, *more)
    assert refused.value.status == 400


def test_connect_may_say_that_it_has_no_body() -> None:
    assert connects_to(b"db.test:443", None, b"Content-Length: 0") == b"db.test:443"
