"""The committed stubs are what their .proto files say, whatever generator wrote them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from meshlib.demo.shop import APP
from meshlib.demo.shop.play import stubs

PROTOS = {"catalog": stubs.catalog_pb2, "orders": stubs.orders_pb2}


def _described_by_proto(name: str, folder: Path) -> FileDescriptorProto:
    out = folder / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{APP}", f"--descriptor_set_out={out}"]
    subprocess.run([*command, str(APP / "shop" / f"{name}.proto")], check=True)
    (found,) = FileDescriptorSet.FromString(out.read_bytes()).file
    for message in found.message_type:
        for field in message.field:
            field.ClearField("json_name")  # generated code leaves it out: it follows from the name
    return found


@pytest.mark.parametrize("name", PROTOS)
def test_the_stubs_describe_what_the_proto_file_does(name: str, tmp_path: Path) -> None:
    committed = FileDescriptorProto()
    PROTOS[name].DESCRIPTOR.CopyToProto(committed)
    assert committed == _described_by_proto(name, tmp_path)


class _Recording:
    """A channel that notes what a stub asks of it."""

    def __init__(self) -> None:
        self.methods: dict[str, tuple[str, str]] = {}

    def __getattr__(self, kind: str) -> Any:
        def make(path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> None:
            # the request's type cannot be told: all messages share one serializer
            self.methods[path] = (kind, response_deserializer.__self__.DESCRIPTOR.full_name)

        return make


@pytest.mark.parametrize(
    ("name", "stub"), [("catalog", stubs.catalog_pb2_grpc.CatalogStub), ("orders", stubs.orders_pb2_grpc.OrdersStub)]
)
def test_the_methods_of_a_stub_are_those_of_the_service(name: str, stub: Any, tmp_path: Path) -> None:
    channel = _Recording()
    stub(channel)
    described = _described_by_proto(name, tmp_path)
    (service,) = described.service
    assert channel.methods == {
        f"/{described.package}.{service.name}/{method.name}": (
            f"{_many(method.client_streaming)}_{_many(method.server_streaming)}",
            method.output_type.removeprefix("."),
        )
        for method in service.method
    }


def _many(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def test_the_stubs_ask_for_no_newer_runtime_than_meshlib_does() -> None:
    # protobuf's check came with generators of 5.27; meshlib allows protobuf 5.26 and grpcio 1.66
    for path in (APP / "shop").glob("*_pb2*.py"):
        text = path.read_text("utf-8")
        assert "ValidateProtobufRuntimeVersion" not in text
        if path.name.endswith("_grpc.py"):
            assert "GRPC_GENERATED_VERSION = '1.65." in text
