"""Paths that are written in more than one way: dot segments, escapes, slashes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.proxy.malformed.case import Case, get, numbered

PIECES = (
    b"/", b"//", b"/.", b"/..", b"/./", b"/../", b"/..;/", b"/.;/", b"..", b".", b"...", b"%2e", b"%2E", b"%2e%2e", b".%2e",
    b"%2f", b"%2F", b"%5c", b"%5C", b"\\", b"\\..\\", b";", b";x=1", b"a", b"b", b"admin", b"%61dmin", b"%41", b"%7e", b"~",
    b"%25", b"%252e", b"%252f", b"%",
    b"%4", b"%zz", b"%u002e", b"%c0%ae", b"%c0%af", b"%e0%80%ae", b"%C3%A9", b"%20", b"%09", b"%0a", b"%0d%0a", b"%00",
    b"%01", b"%1f", b"%7f", b"%80", b"%ff", b"{", b"}", b"^", b"`", b"|", b'"', b"<", b">", b"[", b"]", b"!", b"$", b"&",
    b"'", b"(", b")", b"*", b"+", b",", b"=", b":", b"@", b"-", b"_", b"?", b"?a/../b", b"#f",
)  # fmt: skip
EXACT = tuple(
    b"/" + path
    for path in (
        b"..", b"../", b"../..", b"../../etc/passwd", b"a/..", b"a/../", b"a/../b", b"a/../../b", b"a/./b", b"a/.",
        b"a/b/..", b"a/b/../..", b"a/b/../../..", b".", b"./", b"./a", b".a", b"..a", b"a.", b"a..", b"...", b"a/.../b",
        b"a//b", b"/a", b"//a", b"a//", b"a///b", b"a//../b", b"a/..//b", b".//a", b"..//a",
        b"%2e%2e/a", b"a/%2e%2e/b", b"a/%2E%2e/b", b"a/.%2e/b", b"a/%2e./b", b"a/%2e/b", b"%2e", b"a%2f..%2fb", b"a%2fb",
        b"a%2Fb", b"a/..%2fb", b"a/%2e%2e%2fb", b"a%5cb", b"a\\b", b"a\\..\\b", b"a/..\\b", b"a/%5c../b", b"a%5c..%5cb",
        b"a/..;/b", b"a/..;x/b", b"a/%2e%2e;/b", b"a/.;/b", b"a/;/b", b"a;/../b", b"..;/admin",
        b"admin%00", b"admin%00.html", b"%00", b"admin%0a", b"admin%20", b"admin%09", b"admin%0d%0aX:%20y", b"admin;",
        b"admin;x", b"admin/", b"admin/.", b"admin/./", b"admin//", b"admin?", b"admin??", b"admin?/../x", b"admin#",
        b"admin/..;/admin", b"./admin", b"x/../admin", b"ADMIN", b"%61dmin", b"%2561dmin", b"adm%69n", b"admin%2f",
        b"admin%2F..",
        b"%u0061dmin", b"%c1%a1dmin", b"adm\xc3\xadn", b"adm%c3%adn", b"%2525", b"%25%32%65", b"%%32e", b"%2%65", b"%4%31",
        b"%e", b"%", b"%%", b"%%%", b"%G0", b"%0g", b"a%2e", b"a%2e%2e", b"a.%2e/", b"~a", b"%7Ea", b"%7ea", b"a%2Db",
        b"a%5Fb", b"a%2B", b"a+b", b"a%26b", b"a%3fb", b"a%3Fb", b"a%23b", b"a%3bb", b"a%40b", b"a%3ab",
    )
)  # fmt: skip
RANDOM = 900


def cases() -> Iterator[Case]:
    rng = random.Random(18)
    yield from numbered("path", (get(target=path) for path in EXACT))
    yield from numbered(
        "path-query", (get(target=path + b"?q=/../%2e") for path in EXACT if b"?" not in path and b"#" not in path)
    )
    yield from numbered("path-absolute", (get(target=b"http://shop00" + path) for path in EXACT))
    yield from numbered("path-escape", (get(target=b"/a%%%02x/b" % byte) for byte in range(256)))
    yield from numbered("path-escape-upper", (get(target=b"/a%%%02X/b" % byte) for byte in range(256)))
    yield from numbered("path-piece", (get(target=b"/a" + a + b"b") for a in PIECES))
    yield from numbered(
        "path-random", (get(target=b"/" + b"".join(rng.choices(PIECES, k=rng.randint(1, 9)))) for _ in range(RANDOM))
    )
