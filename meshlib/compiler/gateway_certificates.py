"""``tls`` of a Gateway's server: its certificates, out of files or of the Secrets that ``credentialName`` names, in the
namespace of the gateway's workload, where istiod looks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.gateway_model import GatewayTls, KeyPair
from meshlib.resources.validation.server_tls import KNOWN_CIPHERS

if TYPE_CHECKING:
    from meshlib.compiler.tls_secrets import Secrets
    from meshlib.resources.server_tls import ServerCertificate, ServerTls

VERSIONS = ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
_BEGIN_CERTIFICATE, _BEGIN_KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


class Unusable(Exception):
    """Why nobody can be served by this ``tls``. ``field`` is the one to look at, ``hint`` what to do."""

    def __init__(self, message: str, field: str, hint: str) -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint


def compile_tls(tls: ServerTls, secrets: Secrets) -> GatewayTls:
    """Raises ``Unusable``."""
    mode = tls.mode or ""
    if mode == "ISTIO_MUTUAL":  # Istio's own settings; those of versions and ciphers are not asked
        return GatewayTls(mode, names=tuple(tls.subject_alt_names or ()))
    minimum = _version(tls.min_protocol_version, "TLSV1_2")
    maximum = _version(tls.max_protocol_version, "TLSV1_3")
    if VERSIONS.index(minimum) > VERSIONS.index(maximum):
        raise Unusable(
            f"minProtocolVersion {minimum} is newer than maxProtocolVersion {maximum}: no version is left",
            "minProtocolVersion",
            "leave one of them out",
        )
    ciphers = tuple(dict.fromkeys(cipher for cipher in tls.cipher_suites or () if cipher in KNOWN_CIPHERS))
    made = GatewayTls(mode, minimum=minimum, maximum=maximum, ciphers=ciphers)
    made = _with_certificates(made, tls, secrets)
    return made if mode == "SIMPLE" else _with_demands(made, tls)


def _with_certificates(made: GatewayTls, tls: ServerTls, secrets: Secrets) -> GatewayTls:
    asks = made.asks_clients
    names = list(tls.credential_names or ()) or ([tls.credential_name] if tls.credential_name else [])
    if names:
        roots = asks and not tls.ca_cert_credential_name
        found = [_credential(secrets, name, roots and at == 0) for at, name in enumerate(names[:2])]
        _, ca, crl = found[0]
        if asks and tls.ca_cert_credential_name:
            ca, crl = _roots(secrets, tls.ca_cert_credential_name)
        return replace(made, pairs=tuple(pair for pair, _, _ in found), ca=ca, crl=crl)
    written: Sequence[ServerCertificate | ServerTls] = tls.tls_certificates or [tls]
    pairs = tuple(
        KeyPair(certificate_file=each.server_certificate or "", key_file=each.private_key or "") for each in written[:2]
    )
    if not asks:
        return replace(made, pairs=pairs)
    return replace(made, pairs=pairs, ca_file=tls.ca_certificates or "", crl_file=tls.ca_crl or "")


def _with_demands(made: GatewayTls, tls: ServerTls) -> GatewayTls:
    return replace(
        made,
        names=tuple(tls.subject_alt_names or ()),
        hashes=tuple(each.replace(":", "").lower() for each in tls.verify_certificate_hash or ()),
        keys=tuple(tls.verify_certificate_spki or ()),
    )


def _version(written: str | None, default: str) -> str:
    return default if written in (None, "TLS_AUTO") else str(written)


def _credential(secrets: Secrets, name: str, asks: bool) -> tuple[KeyPair, bytes, bytes]:
    found = secrets.credential(name, mutual=True, verifies=asks)
    if found.problem:
        roots = f", with ca.crt, or a second one {name}-cacert" if asks else ""
        raise Unusable(
            found.problem,
            "credentialName",
            f"{'write again' if secrets.has(name) else 'put'} the Secret (kubernetes.io/tls{roots}) into "
            f"--config, in the namespace of the gateway's workload, {secrets.namespace}",
        )
    certified, keyed = _BEGIN_CERTIFICATE in found.certificate, _BEGIN_KEY in found.key
    if not certified and not keyed and _BEGIN_CERTIFICATE in found.key and _BEGIN_KEY in found.certificate:
        raise Unusable(
            f"certificate and private key of Secret {secrets.namespace}/{name} are swapped",
            "credentialName",
            "give each where the other is",
        )
    if not certified or not keyed:
        what = "private key" if certified else "certificate"
        raise Unusable(
            f"the {what} of Secret {secrets.namespace}/{name} is not PEM",
            "credentialName",
            "kubectl create secret tls makes one that is",
        )
    pair = KeyPair(found.certificate, found.key, source=f"Secret {secrets.namespace}/{name}")
    return pair, found.ca, found.crl


def _roots(secrets: Secrets, name: str) -> tuple[bytes, bytes]:
    found = secrets.credential(name, mutual=False, verifies=True)
    if found.problem:
        raise Unusable(
            found.problem, "caCertCredentialName", f"put a Secret with ca.crt into --config, in {secrets.namespace}"
        )
    return found.ca, found.crl
