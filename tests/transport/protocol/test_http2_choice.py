"""Which library HTTP/2 stands on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import httpx
import pytest

import meshlib
from meshlib.transport.protocol import http2_choice
from meshlib.transport.protocol.http2_choice import installed, preferred
from meshlib.transport.protocol.http2_codec import CHOICE
from meshlib.transport.protocol.http2_h2 import H2Codec

Ngh2Codec = pytest.importorskip("meshlib.transport.protocol.http2_ngh2").Ngh2Codec


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    preferred.cache_clear()
    yield
    preferred.cache_clear()


def without(*names: str, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        http2_choice.importlib.util, "find_spec", lambda name, *rest: None if name in names else real(name, *rest)
    )


def test_nghttp2_is_preferred(monkeypatch):
    monkeypatch.delenv(CHOICE, raising=False)
    assert preferred() is Ngh2Codec


def test_h2_stands_in_where_there_is_no_nghttp2(monkeypatch):
    monkeypatch.delenv(CHOICE, raising=False)
    without("ngh2", monkeypatch=monkeypatch)
    assert preferred() is H2Codec
    assert installed()


@pytest.mark.parametrize(("name", "kind"), [("h2", H2Codec), ("ngh2", Ngh2Codec)])
def test_the_environment_may_choose(monkeypatch, name, kind):
    monkeypatch.setenv(CHOICE, name)
    assert preferred() is kind


ONLY_H2 = """
import os, sys
import meshlib.transport.upstream.http2_threads, meshlib.transport.upstream.http2_loop
from meshlib.transport.protocol.http2_choice import preferred
print(preferred().__name__, *[name for name in sys.modules if name.partition(".")[0] == "ngh2"])
del os.environ["MESHLIB_HTTP2"]
preferred.cache_clear()
try:
    preferred()
except ImportError as error:
    print(error)
"""


def test_with_h2_nghttp2_is_not_imported():
    """And who changes his mind later is told: secrets would be none of nghttp2's."""
    ran = subprocess.run(
        [sys.executable, "-c", ONLY_H2],
        env={**os.environ, CHOICE: "h2"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = "H2Codec\nMESHLIB_HTTP2 was h2 when meshlib was imported, and is not any more\n"
    assert ran.stdout == told, ran.stdout + ran.stderr


def test_a_name_that_is_neither_is_said(monkeypatch):
    monkeypatch.setenv(CHOICE, "nghttp2")
    with pytest.raises(ImportError, match="MESHLIB_HTTP2 is 'nghttp2'; it must be h2 or ngh2"):
        preferred()


def test_a_call_says_so_too(monkeypatch):
    monkeypatch.setenv(CHOICE, "nghttp2")
    ports = [{"number": 80, "name": "http2", "protocol": "HTTP2"}]
    spec = {"hosts": ["a.test"], "ports": ports, "resolution": "STATIC", "endpoints": [{"address": "127.0.0.1"}]}
    entry = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "a"}, "spec": spec}
    with meshlib.Mesh.from_resources([entry]) as mesh, mesh.client() as client:
        with pytest.raises(httpx.ConnectError, match="MESHLIB_HTTP2 is 'nghttp2'; it must be h2 or ngh2"):
            client.get("http://a.test/")


def test_without_either_http2_is_not_there(monkeypatch):
    without("h2", "ngh2", monkeypatch=monkeypatch)
    assert not installed()
