"""Addresses come apart, whatever their form."""

from __future__ import annotations

import pytest

from meshlib.telemetry.access_log.addresses import masked, port_of, without_port


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("10.1.2.3:80", "10.1.2.3", 80),
        ("[::1]:80", "::1", 80),
        ("reviews:9080", "reviews", 9080),
        ("reviews", "reviews", None),
        ("unix:/run/a:1", "unix:/run/a:1", None),
        ("/run/app.sock", "/run/app.sock", None),
        ("", "", None),
        (None, None, None),
    ],
)
def test_host_and_port(address: str | None, host: str | None, port: int | None) -> None:
    assert without_port(address) == host
    assert port_of(address) == port


def test_a_mask_is_for_ip_addresses() -> None:
    assert masked("10.1.10.23:1", 16) == "10.1.0.0/16"
    assert masked("[2001:db8:1234:5678:9abc::1]:1", 64) == "2001:db8:1234:5678::/64"
    assert masked("10.1.10.23:1", 33) == "10.1.10.23/32"
    assert masked("reviews:1", 8) is None
    assert masked(None, 8) is None
