"""Link-local and metadata addresses, however they are written."""

from __future__ import annotations

import pytest

from meshlib.policy.guarded_addresses import is_guarded


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "ff02::1",
        "224.0.0.251",
        "100.100.100.200",
        "fd00:ec2::254",
    ],
)
def test_guarded(address):
    assert is_guarded(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.253.255.255", "100.100.100.201", "::1", "fd00:ec3::1", "fec0::1", "8.8.8.8"],
)
def test_others_are_reached(address):
    assert not is_guarded(address)


@pytest.mark.parametrize("text", ["", "metadata.google.internal", "0xa9fea9fe", "169.254", "2852039166"])
def test_what_is_no_address_is_guarded(text):
    assert is_guarded(text)
