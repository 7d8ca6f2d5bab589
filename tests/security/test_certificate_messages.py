"""Messages of istiod's certificate service, beside those of the protobuf library."""

from __future__ import annotations

import contextlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.certificate_messages import (
    CertificateRequest,
    read_request,
    read_response,
    write_request,
    write_response,
)

TEXT = st.text(max_size=20)
REQUESTS = st.builds(
    CertificateRequest,
    TEXT.map(str.encode),
    st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1),
    st.dictionaries(TEXT, TEXT, max_size=3),
)


def theirs() -> type:
    """IstioCertificateRequest as ca.proto declares it, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="ca.proto", package="istio.v1.auth", syntax="proto3", dependency=["google/protobuf/struct.proto"]
    )
    request = file.message_type.add(name="IstioCertificateRequest")
    kinds = descriptor_pb2.FieldDescriptorProto
    request.field.add(name="csr", number=1, type=kinds.TYPE_STRING, label=1)
    request.field.add(name="validity_duration", number=3, type=kinds.TYPE_INT64, label=1)
    request.field.add(name="metadata", number=4, type=kinds.TYPE_MESSAGE, label=1, type_name=".google.protobuf.Struct")
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.v1.auth.IstioCertificateRequest"))


THEIRS = theirs()


@given(REQUESTS)
def test_what_is_written_is_read(request: CertificateRequest) -> None:
    assert read_request(write_request(request)) == request


@given(REQUESTS)
def test_protobuf_agrees(request: CertificateRequest) -> None:
    found = THEIRS.FromString(write_request(request))
    assert found.csr.encode() == request.csr
    assert found.validity_duration == request.seconds
    assert {key: value.string_value for key, value in found.metadata.fields.items()} == request.metadata
    assert read_request(found.SerializeToString()) == request


@given(st.lists(TEXT, max_size=4))
def test_a_chain_is_read_as_it_is_written(chain: list[str]) -> None:
    assert list(read_response(write_response(chain))) == chain


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_value_error(raw: bytes) -> None:
    for read in (read_request, read_response):
        with contextlib.suppress(ValueError):
            read(raw)
