"""An X.509-SVID that is ours: the certificate that says who this process is, the intermediates behind it, and its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.policy.spiffe_id import SpiffeId


class Svid:
    """``chain_pem``: the leaf first, then intermediates, without the root. ``not_before`` and ``not_after`` are seconds since
    the epoch. The key (PEM, PKCS#8) is in no repr, is not pickled, and leaves through ``key_pem`` alone. ``read_svid`` makes
    them of what others have written, and holds every rule of SPIFFE."""

    __slots__ = ("_key_pem", "chain_pem", "identity", "leaf", "not_after", "not_before")

    def __init__(
        self,
        identity: SpiffeId,
        leaf: bytes,
        chain_pem: bytes,
        key_pem: bytes,
        not_before: float,
        not_after: float,
    ) -> None:
        self.identity = identity
        self.leaf = leaf
        self.chain_pem = chain_pem
        self._key_pem = key_pem
        self.not_before = not_before
        self.not_after = not_after

    @property
    def key_pem(self) -> bytes:
        """The private key. Ask for it only where it is handed to OpenSSL or gRPC core."""
        return self._key_pem

    def __repr__(self) -> str:
        return f"<Svid {self.identity}>"

    def __reduce__(self) -> str:
        raise TypeError("an Svid holds a private key, which is not pickled or copied")
