"""Channels and servers of gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import grpc
import grpc.aio

import meshlib


def channel(mesh: meshlib.Mesh) -> grpc.Channel:
    made = mesh.grpc_channel("ratings:9080", options=[("grpc.max_receive_message_length", 1 << 20)])
    assert_type(made, grpc.Channel)
    return mesh.grpc_channel("ratings:9080", grpc.ssl_channel_credentials())


def aio_channel(mesh: meshlib.Mesh) -> grpc.aio.Channel:
    made = mesh.aio_grpc_channel("ratings:9080", compression=grpc.Compression.Gzip)
    assert_type(made, grpc.aio.Channel)
    return made


def server(mesh: meshlib.Mesh) -> int:
    made = grpc.server(ThreadPoolExecutor(), interceptors=mesh.grpc_server_interceptors(port=50051))
    port = mesh.add_grpc_port(made, "0.0.0.0:50051")
    assert_type(port, int)
    assert_type(mesh.grpc_server_credentials(), grpc.ServerCredentials)
    return port


async def aio_server(mesh: meshlib.Mesh) -> None:
    made = grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors())
    mesh.add_grpc_port(made, "0.0.0.0:50051")
    await made.start()
