"""What ``meshlib serve`` begins with: a port, a health path that takes no application's own, libraries that are there."""

from __future__ import annotations

import logging
import socket
import sys
import types

import pytest
from fastapi import FastAPI

from meshlib.problems import MeshError
from meshlib.serving.serve import HEALTH, ServeOptions, _health_path, listen, require_uvicorn


def test_a_port_in_use_is_said_with_its_remedy() -> None:
    with listen("127.0.0.1", 0, "--port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MeshError, match=rf"port {port} of 127.0.0.1 is in use.*--health-port"):
            listen("127.0.0.1", port, "--health-port")


def test_an_address_of_somebody_else_is_said() -> None:
    with pytest.raises(MeshError, match=r"192\.0\.2\.1 cannot be listened on"):
        listen("192.0.2.1", 0, "--port")


def test_all_addresses_are_those_of_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listen("::", 0, "--port") as both:
        port = both.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 20).close()


def test_health_is_where_the_application_has_nothing(caplog: pytest.LogCaptureFixture) -> None:
    free, taken = FastAPI(), FastAPI()
    taken.get(HEALTH)(lambda: "own")

    def unknown(scope: object, receive: object, send: object) -> None: ...

    options = ServeOptions("shop:app")
    with caplog.at_level(logging.INFO):
        assert [_health_path(options, app) for app in (free, taken, unknown)] == [HEALTH, "", ""]
    assert "is served by the application" in caplog.text
    assert "may be served by the application" in caplog.text


def test_whoever_asks_for_a_path_gets_it() -> None:
    taken = FastAPI()
    taken.get(HEALTH)(lambda: "own")
    assert _health_path(ServeOptions("shop:app", health_path=HEALTH), taken) == HEALTH
    assert _health_path(ServeOptions("shop:app", health_path=""), FastAPI()) == ""


@pytest.mark.parametrize(
    ("library", "says"),
    [
        (None, r"needs uvicorn: pip install 'sidecarless\[serve\]'"),
        (types.SimpleNamespace(__version__="0.29.0"), "uvicorn 0.30 or newer, not 0.29.0"),
    ],
)
def test_a_uvicorn_that_is_missing_or_too_old_is_said(
    monkeypatch: pytest.MonkeyPatch, library: object, says: str
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", library)
    with pytest.raises(MeshError, match=says):
        require_uvicorn()


@pytest.mark.parametrize("version", ["0.30.0", "0.54.0", "1.0.0", "2.0rc1"])
def test_newer_ones_will_do(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", types.SimpleNamespace(__version__=version))
    require_uvicorn()
