"""A gRPC client's process: one way to call, unary, in rounds that the parent asks for.

``python -m meshlib.bench.grpc_client '{"way": "mesh", "world": "sync", "target": ..., ...}'``. A process of its own for each,
as grpcio's sync and asyncio clients disturb each other's threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc

from meshlib.bench import control_plane
from meshlib.bench.certificates import DNS
from meshlib.bench.grpc_backend import UNARY
from meshlib.bench.http_client import AUTHORITY, MESH, TIMEOUT, Wrong, mesh_of, run_on_a_loop
from meshlib.bench.measuring import Asked, AsyncCall, Call, serve_rounds, serve_rounds_on_a_loop
from meshlib.bench.web_backend import ALL_ADDRESSES

SPREAD = "round robin"
"""A bare channel that calls each endpoint in turn, over a connection to each, as gRPC core does it."""
XDS = "xds"
"""grpcio's own mesh, told by ``control_plane.py``."""
_OPTIONS = [("grpc.default_authority", AUTHORITY)]
_IN_TURN = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')


def _channel(module: Any, spec: dict[str, Any]) -> Any:
    """A bare one; ``module``: grpc or grpc.aio. Over mTLS the server's certificate has to come from the root and to be of the
    name that it has beside its SPIFFE ID, which gRPC core cannot check."""
    target, more = spec["target"], []
    if spec["way"] == XDS:
        os.environ.update(control_plane.bootstrap(spec["xds"]))  # read when the first channel of the process is made
        return module.insecure_channel(control_plane.TARGET)
    if spec["way"] == SPREAD:
        port = target.rpartition(":")[2]
        target, more = "ipv4:" + ",".join(f"{address}:{port}" for address in ALL_ADDRESSES), [_IN_TURN]
    if not spec.get("certificates"):
        return module.insecure_channel(target, options=[*_OPTIONS, *more])
    root, key, chain = (
        (Path(spec["certificates"]) / f"{name}.pem").read_bytes() for name in ("bundle", "c-key", "c-cert")
    )
    credentials = grpc.ssl_channel_credentials(root, key, chain)
    return module.secure_channel(target, credentials, options=[("grpc.ssl_target_name_override", DNS), *more])


def _message(asked: Asked) -> bytes:
    return b"x" * asked.body


def _same(response: bytes, message: bytes) -> None:
    if len(response) != len(message):
        raise Wrong(f"a message of {len(message)} bytes came back as {len(response)} bytes")


async def _on_a_loop(spec: dict[str, Any]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if spec["way"] == MESH:
            mesh = stack.enter_context(mesh_of(spec))
            channel: Any = await stack.enter_async_context(mesh.aio_grpc_channel(AUTHORITY))
        else:
            channel = await stack.enter_async_context(_channel(grpc.aio, spec))
        send = channel.unary_unary(UNARY)

        def calls_of(asked: Asked) -> AsyncCall:
            message = _message(asked)

            async def call() -> None:
                _same(await send(message, timeout=TIMEOUT), message)

            return call

        await serve_rounds_on_a_loop(calls_of)


def _in_threads(spec: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        if spec["way"] == MESH:
            channel: Any = stack.enter_context(stack.enter_context(mesh_of(spec)).grpc_channel(AUTHORITY))
        else:
            channel = stack.enter_context(_channel(grpc, spec))
        send = channel.unary_unary(UNARY)

        def calls_of(asked: Asked) -> Call:
            message = _message(asked)

            def call() -> None:
                _same(send(message, timeout=TIMEOUT), message)

            return call

        serve_rounds(calls_of)


def main(spec: dict[str, Any]) -> None:
    """Until standard input ends."""
    if spec["world"] == "asyncio":
        run_on_a_loop(lambda: _on_a_loop(spec), exact=bool(spec.get("exact")))
    else:
        _in_threads(spec)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
