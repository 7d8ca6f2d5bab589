"""Blocks of addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.authorization.blocks import Blocks, UnknownValue

NETWORKS = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "0.0.0.0/0",
    "10.1.2.3",
    "::/0",
    "2001:db8::/32",
    "::1",
    "fe80::/10",
    "10.9.9.9/9",
]


@given(st.ip_addresses())
def test_an_address_is_in_the_blocks_that_have_it(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    blocks = Blocks([(1 << i, [network]) for i, network in enumerate(NETWORKS)], certain=-1)
    expected = [address in ipaddress.ip_network(network, strict=False) for network in NETWORKS]
    assert [bool(blocks(str(address)) >> i & 1) for i in range(len(NETWORKS))] == expected


def test_ipv4_in_the_clothes_of_ipv6_is_ipv6_and_maybe_both() -> None:
    entries = [(1, ["10.0.0.0/8"]), (2, ["::/0"])]
    assert Blocks(entries, certain=-1)("::ffff:10.1.2.3") == 2
    assert Blocks(entries)("::ffff:10.1.2.3") == 3
    assert Blocks(entries)("::ffff:11.1.2.3") == 2


def test_a_zone_is_no_part_of_an_address() -> None:
    assert Blocks([(1, ["fe80::/10"])])("fe80::1%eth0") == 1


@pytest.mark.parametrize("text", ["unix:/x", "10.0.0", "10.0.0.1:80", "", "010.0.0.1"])
def test_what_is_no_address_is_unknown(text: str) -> None:
    with pytest.raises(UnknownValue):
        Blocks([(1, ["0.0.0.0/0"])])(text)
