"""What the mesh's own connections need of a request: all that the runtimes ask, and httpx's has it."""

from __future__ import annotations

import ast
import inspect

import httpx
import pytest

from meshlib.engine.message import Request
from meshlib.engine.wire_headers import ATTEMPT_COUNT
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.runtimes import loop, threads
from meshlib.transport.runtimes.network_request import NetworkRequest


def members(protocol: type) -> set[str]:
    """Its own and its bases'."""
    own = {name for each in protocol.__mro__ for name in (*vars(each), *getattr(each, "__annotations__", {}))}
    return {name for name in own if not name.startswith("_")}


@pytest.mark.parametrize("module", [threads, loop])
def test_the_runtimes_ask_for_nothing_that_is_not_written_down(module):
    asked = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "request"
    }
    assert {"body", "trace", "attempt_headers"} <= asked <= members(NetworkRequest)


def test_it_adds_to_a_request_what_goes_over_the_network_and_nothing_else():
    assert members(NetworkRequest) - members(Request) == {"body", "trace", "attempt_headers"}


def test_httpxs_request_is_one():
    made = HttpxRequest(httpx.Request("POST", "http://reviews:9080/", content=b"abc"), b"abc")
    assert [name for name in members(NetworkRequest) if not hasattr(made, name)] == []
    assert (made.body, made.trace) == (b"abc", None)


def test_the_number_of_the_attempt_is_in_what_is_sent_and_nowhere_else():
    made = HttpxRequest(httpx.Request("GET", "http://reviews:9080/"), None)
    names = [[value for name, value in made.attempt_headers(n) if name.lower() == ATTEMPT_COUNT] for n in (1, 2, 3)]
    assert names == [[b"1"], [b"2"], [b"3"]]
