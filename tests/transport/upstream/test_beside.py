"""What HTTP/2 may ask of the pool beside it: no more than the pool has, and no more than it does ask."""

from __future__ import annotations

import ast
import inspect

import pytest

from meshlib.transport.upstream import http2_loop, http2_threads
from meshlib.transport.upstream.beside import LoopBeside, ThreadsBeside
from meshlib.transport.upstream.loop import AsyncioUpstream
from meshlib.transport.upstream.threads import SyncUpstream

RUNTIMES = pytest.mark.parametrize(
    ("protocol", "pool", "module", "name"),
    [(ThreadsBeside, SyncUpstream, http2_threads, "_beside"), (LoopBeside, AsyncioUpstream, http2_loop, "_sockets")],
)


def methods(protocol: type) -> set[str]:
    return {name for name, what in vars(protocol).items() if inspect.isfunction(what) and not name.startswith("_")}


def asked(module, name: str) -> set[str]:
    """What a module asks of ``self.<name>``, or of the parameter that becomes it."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute):
            whose = node.value
            ours = isinstance(whose, ast.Attribute) and whose.attr == name
            if ours or (isinstance(whose, ast.Name) and whose.id == name.strip("_")):
                found.add(node.attr)
    return found


@RUNTIMES
def test_the_pool_has_what_is_asked_in_the_same_form(protocol, pool, module, name):
    assert methods(protocol)
    for method in methods(protocol):
        wanted = inspect.signature(getattr(protocol, method)).parameters
        found = inspect.signature(getattr(pool, method)).parameters
        assert [(one.name, one.kind, one.default) for one in found.values()] == [
            (one.name, one.kind, one.default) for one in wanted.values()
        ], method
        coroutine = inspect.iscoroutinefunction(getattr(protocol, method))
        assert inspect.iscoroutinefunction(getattr(pool, method)) is coroutine


@RUNTIMES
def test_what_is_asked_is_written_down_and_nothing_else(protocol, pool, module, name):
    assert asked(module, name) == methods(protocol) | set(protocol.__annotations__)


def test_every_field_is_there_from_the_start():
    import asyncio

    from meshlib.transport.upstream.names import Names
    from tests.support.fake_clock import FakeClock

    clock, loop = FakeClock(), asyncio.new_event_loop()
    names = Names(clock)
    for protocol, pool in ((ThreadsBeside, SyncUpstream(clock, names)), (LoopBeside, AsyncioUpstream(loop, names))):
        assert [name for name in protocol.__annotations__ if not hasattr(pool, name)] == []
        assert pool.closed is False
    loop.close()
    names.close()
