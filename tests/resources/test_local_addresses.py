"""Addresses as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from meshlib.resources.local_addresses import parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:9081", "localhost", 9081),
        (":9081", "localhost", 9081),
        ("localhost", "localhost", None),
        ("10.0.0.7:1", "10.0.0.7", 1),
        ("10.0.0.7", "10.0.0.7", None),
        ("[::1]:65535", "::1", 65535),
        ("[::1]", "::1", None),
        ("::1", "::1", None),
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("reviews.prod.example:443", "reviews.prod.example", 443),
        (" localhost:9081 ", "localhost", 9081),
        ("unix:///run/app.sock", "unix:///run/app.sock", None),
        ("unix:/run/app.sock", "unix:///run/app.sock", None),
    ],
)
def test_a_host_and_perhaps_a_port(text, host, port):
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("", "the address is empty", "localhost:9081"),
        ("  ", "the address is empty", "localhost:9081"),
        (9081, "an address is a text, found 9081", "localhost:9081"),
        (None, "an address is a text, found None", "localhost:9081"),
        ("http://localhost:9081", "no scheme, found http://", "write localhost:9081"),
        ("grpc://localhost:9081/x?y", "no scheme, found grpc://", "write localhost:9081"),
        ("me@localhost:9081", "no user or password", "localhost:9081"),
        ("localhost:9081/reviews", "no path or query", "only host and port"),
        ("localhost:0", "port 0 is outside 1..65535", "a number 1..65535"),
        ("localhost:65536", "port 65536 is outside 1..65535", "a number 1..65535"),
        ("localhost:http", "the port of 'localhost:http' is not a number", "a number 1..65535"),
        ("localhost:", "the port of 'localhost:' is not a number", "a number 1..65535"),
        ("localhost:²", "the port of 'localhost:²' is not a number", "a number 1..65535"),
        ("9081", "'9081' is not a host: its last label is only digits", "write :9081"),
        ("*.example.com:80", "is not a host", "localhost:9081"),
        ("a b:80", "is not a host", "localhost:9081"),
        ("::1:x", "more than one colon", "[::1]:9081"),
        ("[::1", "not an IPv6 address in brackets", "[::1]:9081"),
        ("[10.0.0.1]:80", "not an IPv6 address in brackets", "[::1]:9081"),
        ("unix://run/app.sock", "not the absolute path of a socket", "unix:///run/app.sock"),
        ("unix://@app", "abstract sockets are not called", "unix:///run/app.sock"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(value, message, hint):
    with pytest.raises(PydanticCustomError) as caught:
        parse_address(value)
    assert message in caught.value.message()
    context = caught.value.context or {}
    assert hint in str(context["hint"]).replace("{found}", str(context.get("found")))


def test_no_password_is_repeated():
    for text in ("http://me:s3cret@localhost:1/", "me:s3cret@localhost:1", "localhost:1/?token=s3cret"):
        with pytest.raises(PydanticCustomError) as caught:
            parse_address(text)
        assert "s3cret" not in f"{caught.value.message()} {caught.value.context}"


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text):
    try:
        host, port = parse_address(text)
    except PydanticCustomError as error:
        assert error.message()
    else:
        assert host
        assert port is None or 1 <= port <= 65535


@given(st.ip_addresses(), st.none() | st.integers(1, 65535))
def test_every_ip_address_is_one(ip, port):
    literal = f"[{ip}]" if ip.version == 6 else str(ip)
    assert parse_address(literal if port is None else f"{literal}:{port}") == (str(ip), port)
