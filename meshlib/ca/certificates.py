"""istiod's CreateCertificate, as a development CA answers it: the key of a request, the name of its caller."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meshlib.ca.callers import ByToken, UnknownCaller, caller
from meshlib.security.certificate_messages import read_request, write_response
from meshlib.security.pem import blocks, pem_of
from meshlib.security.signing_request import key_of

if TYPE_CHECKING:
    from meshlib.ca.issued import Standing
    from meshlib.clock import Clock

log = logging.getLogger("meshlib.ca")

TTL = 86400.0
MOST = 90 * 86400.0
"""As istiod's DEFAULT_WORKLOAD_CERT_TTL and MAX_WORKLOAD_CERT_TTL."""
IMPERSONATED = "ImpersonatedIdentity"


class Refused(Exception):
    """``code``: gRPC's, by name, as istiod's."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


class CertificateService:
    """``ttl``: seconds that a certificate is valid for which nothing is asked; ``most``: the most that may be asked."""

    def __init__(
        self,
        standing: Callable[[], Standing],
        by_token: ByToken | None,
        clock: Clock,
        *,
        ttl: float = TTL,
        most: float = MOST,
    ) -> None:
        self._standing = standing
        self._by_token = by_token
        self._clock = clock
        self._ttl = ttl
        self._most = most

    def create(self, raw: bytes, leaf: bytes | None, authorizations: Sequence[str]) -> bytes:
        """The response to a request (protobuf, both). ``leaf``: the certificate (DER) that the connection's handshake has
        verified; ``authorizations``: the call's headers of this name. Raises ``Refused``."""
        standing, now = self._standing(), self._clock.time()
        signer = standing.signer
        try:
            who = caller(leaf, authorizations, self._by_token, signer.trust_domain, now)
        except UnknownCaller as error:
            log.warning("a certificate is refused: the caller has %s", error)
            raise Refused("UNAUTHENTICATED", "request authenticate failure") from None
        try:
            request = read_request(raw)
        except ValueError:
            raise Refused("INVALID_ARGUMENT", "the request is not a valid IstioCertificateRequest") from None
        if request.metadata.get(IMPERSONATED):
            log.warning("a certificate was refused: %s requested one for another identity", who)
            raise Refused("UNAUTHENTICATED", "request impersonation authentication failure")
        if request.seconds > self._most:
            raise Refused(
                "INVALID_ARGUMENT",
                f"CSR signing error (requested TTL {request.seconds}s is greater than the max allowed TTL {self._most:.0f}s)",
            )
        try:
            key = key_of(request.csr)
        except ValueError as error:
            raise Refused("INVALID_ARGUMENT", f"CSR signing error (the request {error})") from None
        try:
            made = signer.sign(who.text, key, now, ttl=request.seconds if request.seconds > 0 else self._ttl)
        except ValueError as error:
            log.error("a certificate of %s cannot be signed: %s", who, error)
            raise Refused("INTERNAL", f"CSR signing error ({error})") from None
        from cryptography.hazmat.primitives.serialization import Encoding

        log.info("a certificate of %s until %s", who, made.not_valid_after_utc)
        roots = "".join(map(pem_of, standing.bundles.roots_of(signer.trust_domain)))
        above = [pem_of(block.content) for block in blocks(signer.chain_pem, "the chain")] if signer.chain_pem else []
        return write_response([made.public_bytes(Encoding.PEM).decode(), *above, roots])
