"""The header that a load balancer writes before a connection: read in pieces, written, and refused where it is none."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.proxy_protocol import (
    LONGEST_LINE,
    SIGNATURE,
    NotProxied,
    ProxyHeader,
    Version,
    address_of,
    header_for,
    header_of,
)

V4 = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"
SOURCE, DESTINATION = ("203.0.113.7", 4711), ("198.51.100.1", 443)


def v2(command: int, family: int, rest: bytes, size: int | None = None) -> bytes:
    return SIGNATURE + bytes((command, family)) + (len(rest) if size is None else size).to_bytes(2) + rest


V2_TCP4 = v2(0x21, 0x11, socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + b"\x12\x67\x01\xbb")
V2_TCP6 = v2(
    0x21,
    0x21,
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + b"\x12\x67\x01\xbb",
)


@pytest.mark.parametrize(
    ("data", "source", "destination"),
    [
        (V4, SOURCE, DESTINATION),
        (b"PROXY TCP6 2001:db8::7 2001:DB8::1 4711 443\r\n", ("2001:db8::7", 4711), ("2001:db8::1", 443)),
        (b"PROXY TCP4 0.0.0.1 223.255.255.255 0 65535\r\n", ("0.0.0.1", 0), ("223.255.255.255", 65535)),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN whatever this may be\r\n", None, None),
        (V2_TCP4, SOURCE, DESTINATION),
        (V2_TCP6, ("2001:db8::7", 4711), ("2001:db8::1", 443)),
        (v2(0x20, 0x00, b""), None, None),
        (v2(0x20, 0x11, V2_TCP4[16:]), None, None),  # LOCAL: whatever it says, it is the sender's own
        (v2(0x20, 0x00, b"\x04\x00"), None, None),
        (
            v2(0x21, 0x11, V2_TCP4[16:] + b"\x04\x00\x03abc"),
            SOURCE,
            DESTINATION,
        ),  # of what follows the addresses nothing is read but its length
    ],
)
def test_a_header_says_who_has_connected_and_where_to(data, source, destination):
    found = ProxyHeader(len(data), source, destination)
    assert header_of(data) == found
    assert header_of(data + b"GET / HTTP/1.1\r\n") == found
    assert [header_of(data[:at]) for at in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "does not begin with a PROXY header"),
        (b"\x16\x03\x01", "does not begin with a PROXY header"),
        (b"POST / HTTP/1.1\r\n", "does not begin with a PROXY header"),
        (b"PROXY" + b"\t", "does not begin with a PROXY header"),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\n", "none of version 1"),
        (b"PROXY TCP4  203.0.113.7 198.51.100.1 4711 443\r\n", "none of version 1"),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 4711\r\n", "none of version 1"),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443 \r\n", "none of version 1"),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 04711 443\r\n", "none of version 1"),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 +4711 443\r\n", "none of version 1"),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 65536 443\r\n", "none of TCP4"),
        (b"PROXY TCP4 2001:db8::7 198.51.100.1 4711 443\r\n", "none of TCP4"),
        (b"PROXY TCP6 203.0.113.7 2001:db8::1 4711 443\r\n", "none of TCP6"),
        (b"PROXY TCP4 203.0.113.777 198.51.100.1 4711 443\r\n", "is no address"),
        (b"PROXY TCP4 203.0.113.07 198.51.100.1 4711 443\r\n", "is no address"),
        (b"PROXY UDP4 203.0.113.7 198.51.100.1 4711 443\r\n", "none of version 1"),
        (b"PROXY UNKNOWNX\r\n", "none of version 1"),
        (b"PROXY TCP4 " + b"1" * LONGEST_LINE, "does not end within 107 bytes"),
        (SIGNATURE + b"\x11", "version and command 0x11"),
        (SIGNATURE + b"\x22", "version and command 0x22"),
        (v2(0x21, 0x12, V2_TCP4[16:]), "which is not TCP"),
        (v2(0x21, 0x31, b"x" * 216), "which is not TCP"),
        (v2(0x21, 0x11, b"x" * 11), "too short for its addresses"),
        (v2(0x21, 0x21, b"x" * 35), "too short for its addresses"),
        (v2(0x21, 0x00, b""), "which is not TCP"),
        (v2(0x21, 0x00, b"\x04\x00\x01x"), "which is not TCP"),
        (v2(0x21, 0x11, V2_TCP4[16:] + b"\x04"), "is cut off"),
        (v2(0x21, 0x11, V2_TCP4[16:] + b"\x04\x00\x01x\x04\x00"), "is cut off"),
        (v2(0x21, 0x11, V2_TCP4[16:] + b"\x04\x00\x03ab"), "is longer than the header"),
        (v2(0x21, 0x21, V2_TCP6[16:] + b"\x04\xff\xffab"), "is longer than the header"),
        (b"PROXY TCP4 0.0.0.0 198.51.100.1 4711 443\r\n", "the address of no host"),
        (b"PROXY TCP4 203.0.113.7 255.255.255.255 4711 443\r\n", "the address of no host"),
        (b"PROXY TCP4 224.0.0.1 198.51.100.1 4711 443\r\n", "the address of no host"),
        (b"PROXY TCP6 :: 2001:db8::1 4711 443\r\n", "the address of no host"),
        (v2(0x21, 0x11, b"\x00" * 12), "the address of no host"),
        (v2(0x21, 0x21, b"\xff" + b"\x01" * 35), "the address of no host"),
    ],
)
def test_what_is_no_header_is_refused(data, why):
    with pytest.raises(NotProxied, match=why):
        header_of(data)


ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda ip: not ip.is_multicast and not ip.is_unspecified and str(ip) != "255.255.255.255"
)
ports = st.integers(0, 65535)


@given(st.sampled_from(Version), ips, ips, ports, ports, st.binary(max_size=40))
def test_what_is_written_is_read_whatever_follows(version, one, other, port, other_port, rest):
    source, destination = (str(one), port), (str(other), other_port)
    data = header_for(version, source, destination)
    same = one.version == other.version
    expected = ProxyHeader(len(data), source if same else None, destination if same else None)
    found = header_of(data + rest)
    assert found is not None
    assert found.size == expected.size
    assert [found.source and ipaddress.ip_address(found.source[0])] == [one if same else None]
    assert (found.destination or ("", 0))[1] == (other_port if same else 0)
    assert len(data) <= LONGEST_LINE


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]))
def test_garbage_is_a_header_or_refused_or_waited_for_and_more_bytes_never_change_what_was_read(garbage, before):
    data = before + garbage
    seen: ProxyHeader | None = None
    for at in range(len(data) + 1):
        try:
            found = header_of(data[:at])
        except NotProxied:
            assert seen is None
            return
        assert seen is None or found == seen
        seen = found
        if found is not None:
            assert found.size <= at


def test_nothing_to_say_is_said_so():
    assert header_for(Version.V1, None, None) == b"PROXY UNKNOWN\r\n"
    assert header_of(header_for(Version.V2, None, DESTINATION)) == ProxyHeader(16, None, None)
    assert header_for(Version.V1, SOURCE, DESTINATION) == V4
    assert header_for(Version.V2, SOURCE, DESTINATION) == V2_TCP4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("[::ffff:10.0.0.1]:80", ("10.0.0.1", 80)),
        ("", None),
    ],
)
def test_an_address_is_read(text, found):
    assert address_of(text) == found
