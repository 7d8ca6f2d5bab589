"""httpx or httpx2: whose classes a caller uses, and whose a transport is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import httpx2
import pytest

from meshlib import httpx_module as looked_up
from meshlib.httpx_module import (
    HttpxModule,
    imported,
    module_of_request,
    module_of_transport,
    typed,
    usual,
)

ROOT = Path(__file__).parents[1]


class BothOfThem(httpx.BaseTransport, httpx2.BaseTransport):
    """As one that says it serves anybody."""


@pytest.mark.parametrize(
    ("inner", "module"),
    [
        (httpx.MockTransport(lambda request: httpx.Response(200)), httpx),
        (httpx2.MockTransport(lambda request: httpx2.Response(200)), httpx2),
        (BothOfThem(), None),
        (object(), None),
        (None, None),
    ],
)
def test_a_transport_takes_requests_of_the_module_whose_class_it_is(inner, module):
    assert module_of_transport(inner) is module


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_request_is_of_the_module_whose_class_it_is_or_is_derived_from(module):
    derived = type("Request", (module.Request,), {})
    for kind in (module.Request, derived):
        assert module_of_request(kind("GET", "http://a/")) is module


def test_what_is_nobodys_request_is_taken_for_one_of_the_usual_module():
    assert module_of_request(object()) is usual() is httpx


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_both_modules_have_all_that_a_door_is_made_of(module):
    names = HttpxModule.__annotations__
    assert len(names) > 20
    assert [name for name in names if not callable(getattr(typed(module), name, None))] == []


def test_only_what_was_imported_is_looked_at(monkeypatch):
    assert imported() == [httpx, httpx2]
    monkeypatch.delitem(sys.modules, "httpx2")
    assert imported() == [httpx]
    monkeypatch.setitem(sys.modules, "httpx2", ModuleType("httpx2"))  # it is being imported right now
    assert imported() == [httpx]
    monkeypatch.setitem(sys.modules, "httpx2", httpx)  # one in the place of the other: httpx2.alias_httpx()
    assert imported() == [httpx]


def test_without_httpx_its_successor_is_the_usual_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)  # as if it were not installed
    assert usual() is httpx2


def test_a_broken_httpx_is_not_taken_for_none(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'anyio'", name="anyio")

    monkeypatch.setattr(looked_up.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="anyio"):
        usual()


@pytest.mark.parametrize("module", ["httpx", "httpx2"])
def test_a_program_that_uses_one_of_them_is_made_to_import_no_other(module):
    """What the errors are derived from aside (``meshlib.errors``): that is httpx's where nothing else was imported."""
    other = "httpx2" if module == "httpx" else "httpx"
    program = f"""
import sys, {module}, meshlib
with meshlib.Mesh.from_resources([]) as mesh:
    with {module}.Client(transport=mesh.http_transport({module}.MockTransport(lambda _: {module}.Response(204)))) as client:
        assert client.get("http://reviews/").status_code == 204
    with mesh.client(module={module}) as client:
        assert isinstance(client, {module}.Client)
        try:
            client.get("http://127.0.0.1:1/")
        except {module}.ConnectError as error:
            assert str(error)
        else:
            raise AssertionError("nobody listens there")
assert "{other}" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_where_httpx_is_not_installed_its_successor_does():
    program = """
import asyncio, sys
sys.modules["httpx"] = sys.modules["httpcore"] = None
import httpx2, meshlib
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

with EchoServer("v1") as server:
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port)]) as mesh:
        for client in (mesh.client(), httpx2.Client(transport=mesh.http_transport())):
            assert isinstance(client, httpx2.Client)
            with client:
                assert client.get("http://reviews:9080/").json()["server"] == "v1"
                try:
                    client.get("http://127.0.0.1:1/")
                except httpx2.ConnectError as error:
                    assert isinstance(error, meshlib.errors.ConnectFailed)
                else:
                    raise AssertionError("nobody listens there")

        async def go():
            async with mesh.async_client() as client:
                return (await client.get("http://reviews:9080/")).json()["server"]

        assert asyncio.run(go()) == "v1"
        assert mesh.explain(url="http://reviews:9080/").host == "reviews.default.svc.cluster.local"
import meshlib_fastapi
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
