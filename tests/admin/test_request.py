"""What comes over an admin connection: GET and HEAD are read, whatever else is refused, and nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.admin.request import MOST_BYTES, AdminRequest, Refused, RequestReader, is_this_machine


def read(data: bytes, *, local: bool = False) -> AdminRequest | Refused | None:
    return RequestReader(local=local).feed(data)


def get(*lines: str, target: str = "/clusters", method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("latin-1")


HOST = "host: 127.0.0.1:15000"


def test_a_request_is_its_path_and_query():
    assert read(get(HOST, target="/clusters?format=json&x=&format=text")) == AdminRequest(
        "GET", "/clusters", {"format": "text", "x": ""}
    )
    assert read(get(HOST, target="/a%20b", method="HEAD")) == AdminRequest("HEAD", "/a b", {})
    assert read(get(version="1.0")) == AdminRequest("GET", "/clusters", {}, chunks=False)


def test_it_may_come_byte_by_byte():
    reader, data = RequestReader(local=False), get(HOST)
    assert [reader.feed(data[n : n + 1]) for n in range(len(data) - 1)] == [None] * (len(data) - 1)
    assert reader.feed(data[-1:]) == AdminRequest("GET", "/clusters", {})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"])
def test_nothing_but_get_and_head_is_answered(method):
    target = "127.0.0.1:1" if method == "CONNECT" else "/clusters"
    found = read(get(HOST, method=method, target=target))
    assert isinstance(found, Refused)
    assert found.status == 405


CHANGING = frozenset(["/drain_listeners"])


def change(*lines: str, method: str = "POST", target: str = "/drain_listeners") -> AdminRequest | Refused | None:
    return RequestReader(local=False, changing=CHANGING).feed(get(HOST, *lines, target=target, method=method))


def test_where_something_changes_post_is_taken_and_nothing_else():
    assert change() == AdminRequest("POST", "/drain_listeners", {})
    assert change("content-length: 0", target="/drain_listeners?graceful") == AdminRequest(
        "POST", "/drain_listeners", {"graceful": ""}
    )
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        found = change(method=method)
        assert isinstance(found, Refused)
        assert (found.status, found.allow) == (405, "POST")
        assert "curl -X POST" in found.why
    elsewhere = change(target="/clusters")
    assert isinstance(elsewhere, Refused)
    assert (elsewhere.status, elsewhere.allow) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["origin: null"], 403),
        (["origin: http://127.0.0.1:15000"], 403),
        (["sec-fetch-site: cross-site"], 403),
        (["content-length: 1"], 400),
    ],
)
def test_a_web_page_cannot_change_anything(lines, status):
    found = change(*lines)
    assert isinstance(found, Refused)
    assert found.status == status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(HOST, "content-length: 5"), 400),
        (get(HOST, "transfer-encoding: chunked"), 400),
        (get(HOST, HOST), 400),
        (get(), 400),
        (get(HOST, target="http://127.0.0.1/clusters"), 400),
        (get(HOST, target="*"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 400),
        (get(HOST, target="/?" + "&".join(f"a{n}=" for n in range(65))), 400),
        (get(HOST, *(f"x{n}: y" for n in range(64))), 431),
        (get(HOST, "x: " + "y" * MOST_BYTES), 431),
        (b"GET /" + b"a" * MOST_BYTES, 431),
    ],
)
def test_what_cannot_be_a_request_for_a_page_is_refused(data, status):
    found = read(data)
    assert isinstance(found, Refused)
    assert found.status == status


def test_an_endless_head_is_refused_when_it_is_too_long_and_not_kept():
    reader = RequestReader(local=False)
    reader.feed(b"GET / HTTP/1.1\r\nx: ")
    found = None
    for n in range(100):  # noqa: B007 (looked at below)
        found = reader.feed(b"y" * 1000)
        if found is not None:
            break
    assert isinstance(found, Refused)
    assert (found.status, n) == (431, 8)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:15000", "127.9.9.9", "localhost", "LOCALHOST:9", "localhost.", "[::1]", "[::1]:9999"],
)
def test_names_of_this_machine(host):
    assert is_this_machine(host)
    assert isinstance(read(get(f"host: {host}")), AdminRequest)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:15000", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "0.0.0.0",
     "127.1", "2130706433", "0x7f.1", "[::]", "[fe80::1]", "", "127.0.0.1:x", "127.0.0.1@evil.example", "[::1]x", "::1"],
)  # fmt: skip
def test_a_name_that_a_web_page_could_have_is_refused(host):
    found = read(get(f"host: {host}"))
    assert isinstance(found, Refused)
    assert found.status == 403
    assert "Host is not this machine's" in found.why
    assert isinstance(read(get(f"host: {host}"), local=True), AdminRequest)  # no browser reaches a unix socket


def test_a_page_of_another_site_is_refused_by_what_the_browser_says_of_it():
    for site, ok in (("cross-site", False), ("same-site", False), ("same-origin", True), ("none", True)):
        assert isinstance(read(get(HOST, f"sec-fetch-site: {site}")), AdminRequest) is ok


@given(st.lists(st.binary(max_size=60), max_size=20), st.booleans())
@settings(max_examples=60)
def test_no_bytes_raise(pieces, local):
    reader = RequestReader(local=local)
    for piece in pieces:
        if reader.feed(piece) is not None:
            return


@given(st.data())
@settings(max_examples=60)
def test_where_a_request_is_cut_does_not_matter(data):
    lines = data.draw(
        st.lists(st.sampled_from([HOST, "x: y", "content-length: 3", "host: evil", "a b: c", " folded"]), max_size=4)
    )
    whole = get(*lines, method=data.draw(st.sampled_from(["GET", "POST", "G ET"])))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=5)))
    reader, found = RequestReader(local=False), None
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found = found or reader.feed(whole[begin:end])
    at_once = read(whole)
    assert type(found) is type(at_once)
    assert getattr(found, "status", 200) == getattr(at_once, "status", 200)
