"""Whose request it is, by its addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy import client_address
from meshlib.policy.client_address import (
    LONGEST_SHOWN,
    MAX_SHOWN,
    ShownAddresses,
    ip_of,
    last_forwarded,
    remote_of,
)


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        ("127.0.0.1:4711", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("[::1]:4711", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1"),
        ("unix:/run/app.sock", ""),
        ("", ""),
        ("010.0.0.1:80", ""),
        ("localhost:80", ""),
    ],
)
def test_the_ip_of_a_peer(address, ip):
    assert ip_of(address) == ip


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1,10.0.0.2 ", "10.0.0.2"),
        ("10.0.0.1, ", ""),
        ("10.0.0.1, unknown", ""),
        ("10.0.0.1:80", ""),
        ("[::1]", ""),
        ("::ffff:10.0.0.1", str(ipaddress.ip_address("::ffff:10.0.0.1"))),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_last_that_was_forwarded_for_is_believed_and_no_garbage(forwarded, ip):
    assert last_forwarded(forwarded) == ip


@given(st.text())
def test_no_text_of_a_stranger_breaks_it(text):
    assert ip_of(text) == "" or ip_of(ip_of(text)) == ip_of(text)
    assert isinstance(last_forwarded(text), str)


@pytest.mark.parametrize(
    ("peer", "client", "told"),
    [
        ("127.0.0.1:4711", "127.0.0.1", "127.0.0.1:4711"),
        ("127.0.0.1:4711", "1.2.3.4", "1.2.3.4:0"),
        ("127.0.0.1:4711", "::1", "[::1]:0"),
        ("127.0.0.1:4711", "", "127.0.0.1:4711"),
    ],
)
def test_of_a_client_that_another_proxy_has_named_no_port_is_known(peer, client, told):
    assert remote_of(peer, client) == told


@pytest.mark.parametrize("shown", ["", "127.0.0.1:4711", "[::1]:4711", "[fe80::1%eth0]:80", "unix:/run/app.sock"])
def test_an_address_that_needs_no_escapes_is_kept(shown):
    addresses = ShownAddresses()
    assert addresses.keep("told", shown) == shown
    assert addresses == {"told": shown}


@pytest.mark.parametrize("shown", ['a"b', "a b", "a\nb", "a\n", "\xe9", "a\\b", "a\x7f", "\u0661"])
def test_an_address_that_needs_escapes_is_not(shown):
    addresses = ShownAddresses()
    assert addresses.keep("told", shown) is None
    assert addresses == {}


def test_what_addresses_take_is_bounded():
    addresses = ShownAddresses()
    for n in range(MAX_SHOWN + 10):
        addresses.keep(n, str(n))
    assert len(addresses) <= MAX_SHOWN
    long = "x" * (LONGEST_SHOWN + 1)
    assert addresses.keep("long", long) == long
    assert "long" not in addresses


def test_of_what_is_too_long_for_an_ip_nothing_is_kept():
    """A caller writes it: 4,096 long ones would be hundreds of megabytes."""
    kept = client_address._ip.cache_info().currsize
    assert last_forwarded("1" * 60_000) == last_forwarded(f"{'9' * 60_000}, x{'1' * 50}") == ""
    assert client_address._ip.cache_info().currsize == kept
    assert last_forwarded(f"{'9' * 60_000}, fe80::1%{'e' * 60_000}") == "fe80::1"
