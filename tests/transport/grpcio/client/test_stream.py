"""Streams of responses in threads, as their callers read, leave and cancel them."""

from __future__ import annotations

import threading

import grpc
import pytest

from tests.support.grpc_echo import Message, echo_servers, eventually, stubs
from tests.support.grpc_runtimes import (
    TARGET,
    active,
    mesh_of,
)


def test_a_stream_can_be_left_in_the_middle():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
        for message in stub.Expand(Message(count=1000)):
            if message.text == "3":
                break
        del message
        assert eventually(lambda: active(mesh) == 0)


def test_a_cancelled_stream_says_so():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        call = stubs.EchoStub(mesh.grpc_channel(TARGET)).Expand(Message(count=100_000))
        next(call)
        assert call.is_active()
        assert call.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert call.code() is grpc.StatusCode.CANCELLED
        assert active(mesh) == 0


def test_a_stream_can_be_cancelled_before_anything_came():
    with echo_servers([30]) as [server], mesh_of(server) as mesh:
        call = stubs.EchoStub(mesh.grpc_channel(TARGET)).Expand(Message(count=1))
        assert eventually(lambda: server.seen)
        threading.Timer(0.05, call.cancel).start()
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert active(mesh) == 0


def test_what_a_stream_tells_after_its_end():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        call = stubs.EchoStub(mesh.grpc_channel(TARGET)).Expand(Message(count=2))
        assert [m.text for m in call] == ["0", "1"]
        assert list(call) == []
        assert call.code() is grpc.StatusCode.OK
        assert dict(iter(call.trailing_metadata())) == {"answered-by": "a"}
        assert call.exchange.grpc_status == 0
        assert not call.is_active()
