"""Messages of istiod's ``istio.v1.auth.IstioCertificateService``, by the numbers of its ``ca.proto``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshlib.policy import protobuf

SERVICE = "istio.v1.auth.IstioCertificateService"
CREATE = "CreateCertificate"
_MOST = 1 << 63


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """``csr`` (PEM); ``seconds``: how long the certificate is to be valid, 0: as long as the server likes; ``metadata``: the
    texts of its Struct, such as CertSigner or ImpersonatedIdentity."""

    csr: bytes
    seconds: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_request(raw: bytes) -> CertificateRequest:
    """Raises ValueError for what is not such a message."""
    found = protobuf.Message(raw)
    seconds = found.number(3)
    metadata = {}
    for entry in found.message(4).messages(1):
        metadata[entry.text(1)] = entry.message(2).text(3)
    return CertificateRequest(found.text(1).encode(), seconds - 2 * _MOST if seconds >= _MOST else seconds, metadata)


def write_request(request: CertificateRequest) -> bytes:
    """What ``read_request`` reads."""
    entries = [
        protobuf.message(1, protobuf.data(1, key.encode()) + protobuf.message(2, protobuf.message(3, value.encode())))
        for key, value in request.metadata.items()
    ]
    return (
        protobuf.data(1, request.csr)
        + protobuf.number(3, request.seconds)
        + (protobuf.message(4, b"".join(entries)) if entries else b"")
    )


def read_response(raw: bytes) -> Sequence[str]:
    """The chain (PEM): the leaf first, the root last, or several roots in the last one. Raises ValueError."""
    return protobuf.Message(raw).texts(1)


def write_response(chain: Sequence[str]) -> bytes:
    """What ``read_response`` reads."""
    return b"".join([protobuf.message(1, each.encode()) for each in chain])
