"""Host: absent, twice, empty, with what no host has."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, SHOP, Case, by_byte, numbered, request

VALUES = (
    b"", b" ", b"\t", b" " + SHOP, b"  \t " + SHOP, SHOP + b" ", SHOP + b"\t\t", SHOP.upper(), b"Shop00", SHOP + b".",
    SHOP + b"..", b"." + SHOP, SHOP + b":", SHOP + b":80", SHOP + b":080", SHOP + b":0", SHOP + b":1",
    SHOP + b":65535", SHOP + b":65536", SHOP + b":99999", SHOP + b":999999999999999999999", SHOP + b":-80", SHOP + b":+80",
    SHOP + b":8 0", SHOP + b":http", SHOP + b":80:80", SHOP + b"::80", SHOP + b".:80", b":80", b":", b".",
    SHOP + b"/", SHOP + b"/a", SHOP + b":80/", b"/" + SHOP, b"//" + SHOP, b"http://" + SHOP, b"http://" + SHOP + b"/",
    SHOP + b"?a", SHOP + b"#a", SHOP + b"@evil", b"evil@" + SHOP, b"u:p@" + SHOP, b"@" + SHOP, b"@", SHOP + b"@",
    SHOP + b"," + SHOP, SHOP + b", evil", b"evil, " + SHOP, SHOP + b" evil", b"evil " + SHOP, SHOP + b"\tevil", SHOP + b";a",
    SHOP + b"\\", SHOP + b"\\evil", SHOP + b"%00", SHOP + b"%20", b"%73hop00", SHOP + b"\x00", SHOP + b"\x00evil",
    SHOP + b"\x0b", SHOP + b"\x7f", SHOP + b"\xa0", SHOP + b"\xc3\xa4", b'"' + SHOP + b'"', b"[" + SHOP + b"]", b"[::1]",
    b"[::1]:80", b"[::1", b"::1", b"[]", b"[::1%25eth0]", b"[v1.a]", b"127.0.0.1", b"127.0.0.1:80", b"0", b"2130706433",
    SHOP + b".default", SHOP + b".default:80", SHOP + b".default.svc", SHOP + b".default.svc.cluster.local",
    SHOP + b".default.svc.cluster.local:80", SHOP + b".default.svc.cluster.local.", SHOP + b".evil", b"x." + SHOP, b"*",
    b"*." + SHOP, b"_", b"-", b"a_b",
    b"evil", b"localhost", b"a" * 63, b"a" * 255, b"a" * 256, b"a" * 262, b"a" * 300, b"a" * 5000, b"a." * 127, b"a." * 200,
    SHOP + b"a" * 250,
)  # fmt: skip
NAMES = (
    b"host",
    b"HOST",
    b"hOsT",
    b"Host ",
    b" Host",
    b"Host\t",
    b"Hos",
    b"Hostt",
    b"Ho-st",
    b"X-Host",
    b":authority",
    b"Host\0",
    b"H\xc3\xb6st",
    b":host",
)
TWICE = (SHOP, b"evil", b"", SHOP + b":80", SHOP.upper(), b"a b")
LINE = b"GET / HTTP/1.1"


def cases() -> Iterator[Case]:
    yield Case("host/none", request(LINE, host=None))
    yield Case("host/none-but-headers", request(LINE, b"X: a", host=None))
    for method in (b"POST", b"OPTIONS", b"CONNECT", b"HEAD"):
        yield Case(f"host/none-{method.decode()}", request(method + b" / HTTP/1.1", host=None))
    yield from numbered("host", (request(LINE, host=b"Host: " + value) for value in VALUES))
    yield from numbered("host-no-space", (request(LINE, host=b"Host:" + value) for value in VALUES))
    yield from numbered("host-last", (request(LINE, b"X: a", b"Host: " + value, host=None) for value in VALUES))
    yield from numbered(
        "host-absolute", (request(b"GET http://" + SHOP + b"/a HTTP/1.1", host=b"Host: " + value) for value in VALUES)
    )
    yield from numbered("host-name", (request(LINE, host=name + b": " + SHOP) for name in NAMES))
    yield from numbered("host-and-name", (request(LINE, name + b": evil") for name in NAMES))
    yield from numbered("host-name-first", (request(LINE, b"Host: " + SHOP, host=name + b": evil") for name in NAMES))
    yield from numbered("host-twice", (request(LINE, b"Host: " + b, host=b"Host: " + a) for a in TWICE for b in TWICE))
    yield from numbered(
        "host-twice-apart", (request(LINE, b"X: a", b"host: " + b, host=b"Host: " + a) for a in TWICE for b in TWICE)
    )
    yield Case("host-twice/three", request(LINE, b"Host: " + SHOP, b"Host: " + SHOP))
    yield from numbered(
        "host-fold",
        (
            request(LINE, host=b"Host:" + end + value)
            for end in (b"\r\n ", b"\r\n\t", b"\n ", b"\r ")
            for value in (SHOP, b"evil", b"")
        ),
    )
    yield from by_byte("host-byte", b"GET / HTTP/1.1\r\nHost: " + SHOP, b"\r\n\r\n", EVERY)
    yield from by_byte("host-middle-byte", b"GET / HTTP/1.1\r\nHost: sh", b"op\r\n\r\n", EVERY)
    yield from by_byte("host-port-byte", b"GET / HTTP/1.1\r\nHost: " + SHOP + b":8", b"0\r\n\r\n", EVERY)
