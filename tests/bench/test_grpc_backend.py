"""The gRPC server of a run sends back what it is sent, at every address."""

from __future__ import annotations

import grpc
import pytest

from meshlib.bench.certificates import DNS
from meshlib.bench.grpc_backend import UNARY
from meshlib.bench.scene import Settings, opened
from meshlib.bench.web_backend import ALL_ADDRESSES


def test_a_message_comes_back() -> None:
    with opened(Settings(protocol="grpc")) as made:
        for address in ALL_ADDRESSES:
            with grpc.insecure_channel(f"{address}:{made.port}") as channel:
                assert channel.unary_unary(UNARY)(b"x" * 1024, timeout=30) == b"x" * 1024


def test_over_mtls_a_caller_without_a_certificate_is_not_served() -> None:
    with opened(Settings(tls=True, protocol="grpc")) as made:
        root = (made.certificates / "bundle.pem").read_bytes()
        options = [("grpc.ssl_target_name_override", DNS)]
        credentials = grpc.ssl_channel_credentials(root)
        with grpc.secure_channel(f"127.0.0.1:{made.tls}", credentials, options=options) as channel:
            with pytest.raises(grpc.RpcError) as failed:
                channel.unary_unary(UNARY)(b"x", timeout=30)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
