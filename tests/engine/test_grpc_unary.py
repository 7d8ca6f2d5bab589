"""Unary calls of gRPC as plain requests."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.grpc_unary import grpc_message, grpc_request
from meshlib.engine.outcome import Failure, Outcome

OK = [(b"grpc-status", b"0")]
TYPE = (b"Content-Type", b"application/grpc+proto")


def test_a_message_is_sent_in_five_bytes_more() -> None:
    made = grpc_request("opa:9000", "/a.B/C", b"abc", 1.5)
    assert (made.protocol, made.method, made.target, made.authority) == ("grpc", "POST", b"/a.B/C", "opa:9000")
    assert made.body == b"\0\0\0\0\x03abc"
    assert dict(made.headers)[b"te"] == b"trailers"
    assert made.header("content-type") == "application/grpc"
    assert made.header("grpc-timeout") in ("1500m", "1500000u")
    assert grpc_request("opa", "/a", b"").header("grpc-timeout") is None


def outcome(whole: bytes, trailers: Any = OK, headers: Any = (TYPE,), status: int = 200) -> Outcome:
    return Outcome(status=status, headers=list(headers), whole=whole, trailers=trailers)


@pytest.mark.parametrize("message", [b"", b"abc", b"x" * 300])
def test_the_message_of_a_response(message: bytes) -> None:
    assert grpc_message(outcome(b"\0" + len(message).to_bytes(4, "big") + message)) == message


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (Outcome(Failure.CONNECT_FAILED, "refused"), "connect_failed: refused"),
        (outcome(b"", status=503), "it responded 503"),
        (Outcome(status=503, detail="no_healthy_upstream"), "no_healthy_upstream"),
        (outcome(b"\0\0\0\0\0", headers=[(b"content-type", b"text/html")]), "its response is not gRPC's"),
        (outcome(b"\0\0\0\0\0", headers=[]), "its response is not gRPC's"),
        (outcome(b"\0\0\0\0\0", [(b"grpc-status", b"14"), (b"grpc-message", b"s3cr3t")]), "UNAVAILABLE"),
        (outcome(b"", [], [TYPE, (b"grpc-status", b"7")]), "PERMISSION_DENIED"),
        (outcome(b"\0\0\0\0\0", []), "its response has no valid grpc-status"),
        (outcome(b"\0\0\0\0\0", None), "its response has no valid grpc-status"),
        (outcome(b"\0\0\0\0\0", [(b"grpc-status", b"99")]), "its response has no valid grpc-status"),
        (outcome(b"\0\0\0\0\0", [(b"grpc-status", b"x")]), "its response has no valid grpc-status"),
        (outcome(b"\0\0\0\0\0", [(b"grpc-status", b"00")]), "OK"),
        (outcome(b""), "its response is not one uncompressed message"),
        (outcome(b"\0\0\0\0"), "its response is not one uncompressed message"),
        (outcome(b"\x01\0\0\0\0"), "its response is not one uncompressed message"),
        (outcome(b"\0\0\0\0\x02a"), "its response is not one uncompressed message"),
        (outcome(b"\0\0\0\0\x01ab"), "its response is not one uncompressed message"),
    ],
)
def test_why_there_is_no_message(made: Outcome, why: str) -> None:
    assert grpc_message(made) == why
