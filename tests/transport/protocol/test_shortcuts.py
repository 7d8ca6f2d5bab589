"""MESHLIB_PLAIN=1 turns every shortcut off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from meshlib.transport.protocol.shortcuts import VARIABLE, turned_off

CALLS = """
import asyncio, sys
import httpx, meshlib
from meshlib.engine import run_call
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.httpx import direct_send, filled, origins
from meshlib.transport.protocol import http1, known_heads, request_head
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

taken = []

def watched(holder, name):
    real = getattr(holder, name)
    def shortcut(*args, **more):
        taken.append(name)
        return real(*args, **more)
    setattr(holder, name, shortcut)

watched(direct_send, "_taken")
plainly = []
begun = run_call.begun
run_call.begun = lambda call: plainly.append(call) or begun(call)
brief = []
exchange_of = MeshCore.exchange_of
def told(call, brief_one=False, **more):
    asked = more.get("brief", brief_one)
    if asked:
        brief.append(call)
    return exchange_of(call, asked)

def whole(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
    return True

async def on_loop(mesh):
    async with mesh.async_client() as client:
        return [await client.get("http://reviews:9080/") for _ in range(3)]

with EchoServer("v1") as server, meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port)]) as mesh:
    server.behave = whole
    with mesh.client() as client:
        responses = [client.get("http://reviews:9080/") for _ in range(3)]
    MeshCore.exchange_of = staticmethod(told)  # whoever takes its place sees all calls
    responses += asyncio.run(on_loop(mesh))
    assert {each.text for each in responses} == {"hello"}
    found = {
        "sent directly": taken,
        "brief exchanges": brief,
        "plain calls": plainly,
        "objects filled": filled.headers_as_known,
        "URLs built": client._built.urls,
        "templates": client._built.templates,
        "heads of responses": known_heads.known,
        "names of headers": request_head._known_names,
        "origins": origins._known,
        "places": [each for each in responses if origins._KEPT_IN in vars(each.request.url)],
        "bodies at hand": [each for each in responses if "_own_stream" in vars(each)],
    }
    print(sorted(name for name, shortcut in found.items() if shortcut))
"""


def shortcuts_of_a_process(plain: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", CALLS], env={**os.environ, VARIABLE: plain}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_none_is_taken_when_it_is_set() -> None:
    assert shortcuts_of_a_process("1") == "[]"


def test_all_are_taken_otherwise() -> None:
    assert shortcuts_of_a_process("") == str(
        sorted(
            [
                "sent directly",
                "brief exchanges",
                "plain calls",
                "objects filled",
                "URLs built",
                "templates",
                "heads of responses",
                "names of headers",
                "origins",
                "places",
                "bodies at hand",
            ]
        )
    )


@pytest.mark.parametrize(("said", "off"), [("1", True), ("0", False), ("", False), ("true", False)])
def test_only_1_turns_them_off(said: str, off: bool) -> None:
    assert turned_off({VARIABLE: said}) is off
    assert not turned_off({})
