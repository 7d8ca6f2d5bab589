"""The gRPC server of a run sends back what it is sent, at every address."""

from __future__ import annotations

import grpc

from meshlib.bench.grpc_backend import UNARY
from meshlib.bench.scene import Settings, opened
from meshlib.bench.web_backend import ALL_ADDRESSES


def test_a_message_comes_back() -> None:
    with opened(Settings(protocol="grpc")) as made:
        for address in ALL_ADDRESSES:
            with grpc.insecure_channel(f"{address}:{made.port}") as channel:
                assert channel.unary_unary(UNARY)(b"x" * 1024, timeout=30) == b"x" * 1024
