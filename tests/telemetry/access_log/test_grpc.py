"""Lines of gRPC calls, made and served, in threads and on asyncio."""

from __future__ import annotations

import asyncio
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from tests.support.grpc_echo import Echo, Message, stubs

FORM = (
    "%REQ(:METHOD)% %PATH% %PROTOCOL% %RESPONSE_CODE% %GRPC_STATUS% %GRPC_STATUS_NUMBER% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% %REQ(X-TAG)% %BYTES_RECEIVED% %BYTES_SENT%"
)
UNARY, EXPAND = "/meshlib.test.Echo/Unary", "/meshlib.test.Echo/Expand"


def client_mesh(path: Path, port: int) -> meshlib.Mesh:
    return meshlib.Mesh.from_yaml(
        "",
        endpoints={"echo": f"127.0.0.1:{port}"},
        registry=CollectorRegistry(),
        access_log=path,
        access_log_format=FORM,
    )


def server_mesh(path: Path) -> meshlib.Mesh:
    return meshlib.Mesh.from_yaml("", registry=CollectorRegistry(), access_log=path, access_log_format=FORM)


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_calls_in_threads(tmp_path: Path) -> None:
    made, served = tmp_path / "made.log", tmp_path / "served.log"
    with server_mesh(served) as mesh:
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=mesh.grpc_server_interceptors())
        stubs.add_EchoServicer_to_server(Echo("e", ["ok", "ok", "NOT_FOUND"]), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with client_mesh(made, port) as calling, calling.grpc_channel(f"echo:{port}") as channel:
            stub = stubs.EchoStub(channel)
            stub.Unary(Message(text="hi"), metadata=(("x-tag", "v"),))
            list(stub.Expand(Message(text="hi", count=2)))
            with pytest.raises(grpc.RpcError):
                stub.Unary(Message(text="hi"))
        server.stop(None).wait(60)
    check(read(made), read(served))


def test_calls_on_asyncio(tmp_path: Path) -> None:
    made, served = tmp_path / "made.log", tmp_path / "served.log"

    class AioEcho(stubs.EchoServicer):  # type: ignore[misc]
        calls = 0

        async def Unary(self, request: Any, context: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
            return Message(text=request.text)

        async def Expand(self, request: Any, _context: Any) -> Any:
            for _ in range(2):
                yield Message(text=request.text)

    async def go() -> None:
        with server_mesh(served) as mesh:
            server = grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors())
            stubs.add_EchoServicer_to_server(AioEcho(), server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            with client_mesh(made, port) as calling:
                async with calling.aio_grpc_channel(f"echo:{port}") as channel:
                    stub = stubs.EchoStub(channel)
                    await stub.Unary(Message(text="hi"), metadata=(("x-tag", "v"),))
                    assert len([each async for each in stub.Expand(Message(text="hi"))]) == 2
                    with pytest.raises(grpc.RpcError):
                        await stub.Unary(Message(text="hi"))
            await server.stop(None)

    asyncio.run(go())
    check(read(made), read(served))


def check(made: list[str], served: list[str]) -> None:
    for lines in (made, served):
        assert [line.rsplit(" ", 2)[0] for line in sorted(lines)] == sorted(
            [
                f"POST {UNARY} HTTP/2 200 OK 0 - via_upstream v",
                f"POST {EXPAND} HTTP/2 200 OK 0 - via_upstream -",
                f"POST {UNARY} HTTP/2 200 NotFound 5 - via_upstream -",
            ]
        )
    assert sorted(line.split()[1:][-2:] for line in made) == sorted(line.split()[1:][-2:] for line in served)
