"""Messages of the SPIFFE Workload API about X.509, by the numbers of its ``workload.proto``, read and written by our own
reader of protocol buffers: generated classes would be registered by name in a pool that is the whole process's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshlib.policy import protobuf

SERVICE = "SpiffeWorkloadAPI"
FETCH_SVID = "FetchX509SVID"
FETCH_BUNDLES = "FetchX509Bundles"
HEADER = ("workload.spiffe.io", "true")
"""What every call must have, so that nobody is made to call by a request that he passes on."""


@dataclass(frozen=True, slots=True)
class X509Svid:
    """``chain``: certificates in DER, the leaf first; ``key``: PKCS#8 in DER, in no repr; ``bundle``: the roots of its trust
    domain; ``hint``: what the operator calls it."""

    spiffe_id: str
    chain: bytes
    key: bytes = field(repr=False)
    bundle: bytes
    hint: str = ""


@dataclass(frozen=True, slots=True)
class X509SvidResponse:
    """``federated``: roots (DER) of other trust domains, by their SPIFFE ID."""

    svids: Sequence[X509Svid]
    federated: Mapping[str, bytes]
    crl: Sequence[bytes] = ()


def read_svids(raw: bytes) -> X509SvidResponse:
    """Raises ValueError for what is not such a message."""
    found = protobuf.Message(raw)
    svids = [
        X509Svid(each.text(1), each.data(2), each.data(3), each.data(4), each.text(5)) for each in found.messages(1)
    ]
    return X509SvidResponse(svids, _bundles(found, 3), tuple(found.all(2)))


def write_svids(response: X509SvidResponse) -> bytes:
    """What ``read_svids`` reads."""
    made = [protobuf.message(1, _svid(each)) for each in response.svids]
    made += [protobuf.message(2, each) for each in response.crl]
    return b"".join(made) + _map(3, response.federated)


def read_bundles(raw: bytes) -> Mapping[str, bytes]:
    """Of X509BundlesResponse: roots (DER) by SPIFFE ID of the trust domain. Raises ValueError."""
    return _bundles(protobuf.Message(raw), 2)


def write_bundles(bundles: Mapping[str, bytes]) -> bytes:
    """What ``read_bundles`` reads."""
    return _map(2, bundles)


def _svid(svid: X509Svid) -> bytes:
    return (
        protobuf.data(1, svid.spiffe_id.encode())
        + protobuf.data(2, svid.chain)
        + protobuf.data(3, svid.key)
        + protobuf.data(4, svid.bundle)
        + protobuf.data(5, svid.hint.encode())
    )


def _map(number: int, values: Mapping[str, bytes]) -> bytes:
    return b"".join(
        [
            protobuf.message(number, protobuf.data(1, key.encode()) + protobuf.data(2, value))
            for key, value in values.items()
        ]
    )


def _bundles(found: protobuf.Message, number: int) -> dict[str, bytes]:
    return {entry.text(1): entry.data(2) for entry in found.messages(number)}
