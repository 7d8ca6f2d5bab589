"""Messages of the Workload API, beside those that protoc has made for PyPI's ``spiffe``."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.workload_messages import (
    X509Svid,
    X509SvidResponse,
    read_bundles,
    read_svids,
    write_bundles,
    write_svids,
)

TEXT = st.text(max_size=20)
BYTES = st.binary(max_size=40)
SVIDS = st.builds(X509Svid, TEXT, BYTES, BYTES, BYTES, TEXT)
BUNDLES = st.dictionaries(TEXT, BYTES, max_size=4)


@given(st.lists(SVIDS, max_size=4), BUNDLES, st.lists(BYTES, max_size=3))
def test_what_is_written_is_read(svids: list[X509Svid], federated: dict[str, bytes], crl: list[bytes]) -> None:
    found = read_svids(write_svids(X509SvidResponse(svids, federated, crl)))
    assert list(found.svids) == svids
    assert found.federated == federated
    assert list(found.crl) == crl


@given(BUNDLES)
def test_bundles_are_read_as_they_are_written(bundles: dict[str, bytes]) -> None:
    assert read_bundles(write_bundles(bundles)) == bundles


@given(st.lists(SVIDS, max_size=3), BUNDLES)
def test_protoc_agrees(svids: list[X509Svid], federated: dict[str, bytes]) -> None:
    theirs = pytest.importorskip("spiffe._proto.workload_pb2", reason="PyPI spiffe is not installed")
    found = theirs.X509SVIDResponse.FromString(write_svids(X509SvidResponse(svids, federated)))
    assert [(s.spiffe_id, s.x509_svid, s.x509_svid_key, s.bundle, s.hint) for s in found.svids] == [
        (s.spiffe_id, s.chain, s.key, s.bundle, s.hint) for s in svids
    ]
    assert dict(found.federated_bundles) == federated
    assert list(read_svids(found.SerializeToString()).svids) == svids


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_value_error(raw: bytes) -> None:
    for read in (read_svids, read_bundles):
        with contextlib.suppress(ValueError):
            read(raw)


def test_no_repr_shows_the_key() -> None:
    assert "c4n4ry" not in repr(X509SvidResponse([X509Svid("a", b"", b"c4n4ry", b"")], {}))
