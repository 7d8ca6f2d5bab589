"""CONNECT as policy and telemetry see it."""

from __future__ import annotations

import pytest

from meshlib.proxy.connect_request import ConnectRequest

LINES = b"Host: db.test:5432\r\nUser-Agent: a\r\n"


def made() -> ConnectRequest:
    return ConnectRequest(b"db.test:5432", LINES, b"\r\n" + LINES.lower())


def test_it_is_for_its_host_and_port_and_has_no_path() -> None:
    request = made()
    assert (request.method, request.authority, request.dialled) == ("CONNECT", "db.test:5432", "db.test:5432")
    assert (request.protocol, request.target, request.header("user-agent")) == ("tcp", b"", "a")


def test_what_came_through_the_tunnel_counts_as_its_body() -> None:
    request = made()
    before = request.sent_bytes()
    request.received = 1000
    assert request.sent_bytes() == before + 1000


def test_nothing_mirrors_it() -> None:
    with pytest.raises(NotImplementedError):
        made().shadow()
