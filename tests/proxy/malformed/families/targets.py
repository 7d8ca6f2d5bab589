"""Request targets: their four forms, fragments, bytes that no target has, lengths."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, INTERESTING, SHOP, Case, by_byte, numbered, request

HOST = b"Host: " + SHOP
FORMS = (
    b"*", b"**", b"/*", b"a", b"a/b", b"?", b"?a", b"#", b"#a", b"/#", b"/a#b", b"/a#", b"/a?b#c", b"/a#b?c", b"/#/../admin",
    b"/a#/admin", b"//", b"//evil/", b"///", b"//" + SHOP + b"/a",
    b".", b"..", b"./a", b"../a", b"\\", b"\\a", b"/\\a", b"%2fa", b"%2F", b";", b"/;", b"/?", b"/??", b"/?a=b&c", b"/?a#b",
    b"http:", b"http:/", b"http:/a", b"http://", b"http:///", b"http:///a",
    b"http:a", b"/http://evil/", b"http:\\\\evil\\", b"ftp://" + SHOP + b"/", b"ws://" + SHOP + b"/",
    b"wss://" + SHOP + b"/", b"file:///etc/passwd", b"javascript:alert(1)", b"mailto:a@b", b"urn:a",
    b"/a b", b"/a  b", b"/a\tb", b"/%", b"/%z", b"/%zz", b"/%2", b"/%00", b"/%0a", b"/%0d%0aX:%20y", b"/%25", b"/a%",
    b"/a|b", b"/a^b", b"/a`b", b'/a"b', b"/<a>", b"/{a}", b"/[a]", b"/a\x7f", b"/\xc3\xa4",
    b"/a?\xc3\xa4", b"/a?b c", b"/a?%00", b"/a?%zz", b"/a?b\\c", b"/a?b|c", b"/a?b/../c", b"/a?//", b"/a;b=c", b"/a;/../b",
    b"/a,b", b"/a:b", b"/:80", b":80", b":", b"@", b"/@a", b"a@b", b"a:b@c:1",
    SHOP, SHOP + b":80", SHOP + b"/", b"127.0.0.1", b"127.0.0.1:80", b"[::1]:80", b"[::1]", b"1", b"1:1", b"x:99999", b"x:0",
    b"x:", b"x:a", b"x:-1", b"x:1/", b"x:1?a", b"x:1#a", b"x y:1", b"u@x:1",
)  # fmt: skip
ABSOLUTE = tuple(
    scheme + authority + tail
    for scheme in (b"http://", b"HTTP://", b"hTTp://", b"https://", b"HTTPS://")
    for authority in (SHOP, SHOP.upper(), SHOP + b":80", SHOP + b":9999", SHOP + b":",
                      b"evil", b"u@" + SHOP, b"u:p@" + SHOP, b"evil@" + SHOP, SHOP + b"@evil")
    for tail in (b"", b"/", b"/a", b"?q", b"/a?q#f")
)  # fmt: skip
ODD_ABSOLUTE = tuple(
    b"http://" + rest
    for rest in (
        b":80/", b"@/", b"@" + SHOP + b"/", b"@@" + SHOP + b"/", SHOP + b":80:80/", SHOP + b":a/", SHOP + b":-1/",
        SHOP + b":0/", SHOP + b":65536/", SHOP + b":99999999999/", SHOP + b":080/",
        SHOP + b"\\evil/", SHOP + b"\\@evil/", b"evil\\@" + SHOP + b"/", SHOP + b"#@evil/", SHOP + b"?@evil/", SHOP + b";x/",
        SHOP + b",evil/", SHOP + b"%00/", SHOP + b"%2f/", b"%73hop00/", SHOP + b"./", b"." + SHOP + b"/",
        SHOP + b"../", b"[::1]/", b"[::1/", b"::1/", b"[" + SHOP + b"]/", b"[]/", b"127.0.0.1/", b"0x7f.1/", b"a b/",
        b"a\tb/", b"\xc3\xa4/", b"a\x7f/", b"a\x01/", b"a|b/", b"a^b/", b"a<b/", b"a{b/", b'a"b/',
        SHOP + b"//a", SHOP + b"/../a", SHOP + b"/./a", SHOP + b"/%2e%2e/a", SHOP + b"/a//b", SHOP + b"/a%2fb",
        SHOP + b"/\\a", b"/" + SHOP + b"/", b"//" + SHOP + b"/", b"///", b"a" * 300 + b"/", b"a." * 200 + b"/",
    )
)  # fmt: skip
METHODS = (b"GET", b"POST", b"OPTIONS", b"HEAD", b"CONNECT", b"TRACE", b"PUT")
HOSTS = (
    b"Host: evil",
    b"Host: " + SHOP + b":80",
    b"Host: " + SHOP.upper(),
    b"Host:",
    b"Host: a b",
    b"Host: " + SHOP + b"\r\nHost: evil",
    b"Host: evil\r\nHost: " + SHOP,
    b"Host: u@" + SHOP,
)


def cases() -> Iterator[Case]:
    for method in METHODS:
        name = method.decode().lower()
        yield from numbered(f"target-{name}", (request(method + b" " + form + b" HTTP/1.1") for form in FORMS))
    yield from numbered("absolute", (request(b"GET " + target + b" HTTP/1.1") for target in ABSOLUTE))
    yield from numbered("absolute-odd", (request(b"GET " + target + b" HTTP/1.1") for target in ODD_ABSOLUTE))
    yield from numbered(
        "absolute-no-host",
        (request(b"GET " + target + b" HTTP/1.1", host=None) for target in ABSOLUTE[:50] + ODD_ABSOLUTE),
    )
    yield from numbered(
        "absolute-host",
        (
            request(b"GET http://" + a + b"/ HTTP/1.1", host=host)
            for a in (SHOP, b"evil", SHOP + b":80")
            for host in HOSTS
        ),
    )
    yield from numbered(
        "absolute-1.0", (request(b"GET " + target + b" HTTP/1.0", host=None) for target in ABSOLUTE[:5])
    )
    yield from by_byte("target-byte", b"GET /a", b"b HTTP/1.1\r\n" + HOST + b"\r\n\r\n", EVERY)
    yield from by_byte("target-first-byte", b"GET ", b" HTTP/1.1\r\n" + HOST + b"\r\n\r\n", EVERY)
    yield from by_byte("query-byte", b"GET /a?b", b"c HTTP/1.1\r\n" + HOST + b"\r\n\r\n", EVERY)
    yield from by_byte("authority-byte", b"GET http://sh", b"op/ HTTP/1.1\r\n" + HOST + b"\r\n\r\n", EVERY)
    yield from by_byte("connect-byte", b"CONNECT " + SHOP, b":80 HTTP/1.1\r\n" + HOST + b"\r\n\r\n", INTERESTING)
    for size in (
        255,
        1_000,
        4_096,
        8_192,
        16_384,
        32_768,
        60_000,
        61_000,
        61_300,
        61_400,
        61_440,
        61_500,
        62_000,
        65_536,
        100_000,
    ):
        yield Case(f"target-length/path-{size}", request(b"GET /" + b"a" * size + b" HTTP/1.1"))
        yield Case(f"target-length/query-{size}", request(b"GET /?" + b"a" * size + b" HTTP/1.1"))
        yield Case(f"target-length/slashes-{size}", request(b"GET " + b"/" * size + b" HTTP/1.1"))
        yield Case(f"target-length/authority-{size}", request(b"GET http://" + b"a" * size + b"/ HTTP/1.1"))
