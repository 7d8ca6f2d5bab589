"""Secrets and certificates of Gateways: those that are not there or hold none, and those that several use."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.analysis.codes import DUPLICATE_CERTIFICATE, INVALID_CREDENTIAL, NOT_FOUND
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import Index, short_or_full
from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.pace import take_turns
from meshlib.resources.typed import GATEWAY

if TYPE_CHECKING:
    from meshlib.resources.gateway import Gateway
    from meshlib.resources.kubernetes import Secret
    from meshlib.resources.server_tls import ServerTls


def secrets(index: Index) -> Iterator[Finding]:
    """Secrets of servers that are not there, or hold no certificate. Nothing is said when no Secret is there at all: few
    keep them beside their routes."""
    if not index.secrets:
        return
    for gateway in index.analyzed(GATEWAY):
        found = index.runs(gateway)
        if not found:
            continue
        # Istio looks in the namespace of the workload, not of the Gateway
        namespace = found[0].namespace
        for position, server in enumerate(gateway.spec.servers or ()):
            take_turns()
            if server.tls is None:
                continue
            here: Loc = ("spec", "servers", position, "tls")
            if server.tls.credential_name:
                loc = (*here, "credentialName")
                yield from _secret(index, gateway, server.tls.credential_name, namespace, loc)
            for at, name in enumerate(server.tls.credential_names or ()):
                yield from _secret(index, gateway, name, namespace, (*here, "credentialNames", at))


def _secret(index: Index, gateway: Gateway, name: str, namespace: str, loc: Loc) -> Iterator[Finding]:
    if "://" in name:
        return  # sds:// and the like: not a Kubernetes Secret
    key = short_or_full(name, namespace)
    secret = index.secrets.get(key)
    if secret is None:
        elsewhere = sorted(ns for ns, known in index.secrets if known == key[1])
        near = Nearest(n for ns, n in index.secrets if ns == key[0]).of(key[1])
        hint = (
            f"there is one in namespace {elsewhere[0]}; it must be where the gateway's workload runs"
            if elsewhere
            else ""
        )
        message = f"the secret {'/'.join(key)} does not exist"
        yield Finding(NOT_FOUND, gateway, loc, message, hint or did_you_mean(near) or "add the Secret")
        return
    missing = _what_is_wrong(secret)
    if missing:
        hint = "a Secret of type kubernetes.io/tls has tls.crt and tls.key"
        yield Finding(INVALID_CREDENTIAL, gateway, loc, f"the secret {'/'.join(key)} {missing}", hint)


def _what_is_wrong(secret: Secret) -> str:
    values = {**(secret.data or {}), **(secret.string_data or {})}
    plain = secret.string_data or {}
    for certificate, key in (("tls.crt", "tls.key"), ("cert", "key")):
        if certificate in values or key in values:
            missing = [name for name in (certificate, key) if not values.get(name)]
            if missing:
                return f"has no {' and no '.join(missing)}"
            text = values[certificate].encode()
            try:
                pem = text if certificate in plain else base64.b64decode(text, validate=False)
            except binascii.Error:
                return f"has a {certificate} that is not base64"
            return (
                "" if b"-----BEGIN CERTIFICATE-----" in pem else f"has a {certificate} that is not a certificate (PEM)"
            )
    return "has neither tls.crt and tls.key nor cert and key"


def shared_certificates(index: Index) -> Iterator[Finding]:
    """The same certificate in several gateways: browsers reuse a connection for the host of another gateway, and get 404."""
    by_certificate: dict[tuple[str, str], list[Gateway]] = {}
    for gateway in index.of(GATEWAY):
        for server in gateway.spec.servers or ():
            key = _certificate(server.tls)
            if key is not None:
                known = by_certificate.setdefault(key, [])
                if not known or known[-1] is not gateway:
                    known.append(gateway)
    for gateway in index.analyzed(GATEWAY):
        take_turns()
        selector = (gateway.spec.selector or {}).items()
        for position, server in enumerate(gateway.spec.servers or ()):
            key = _certificate(server.tls)
            others = [
                other.id
                for other in (by_certificate[key] if key is not None else ())
                if other is not gateway and selector <= (other.spec.selector or {}).items()
            ]
            if others:
                yield Finding(
                    DUPLICATE_CERTIFICATE,
                    gateway,
                    ("spec", "servers", position, "tls"),
                    f"{' and '.join(others[:3])} use{'s' if len(others) == 1 else ''} the same certificate: clients that "
                    "reuse HTTP/2 connections may get 404",
                    "put the servers into one Gateway",
                )
                break


def _certificate(tls: ServerTls | None) -> tuple[str, str] | None:
    if tls is None:
        return None
    if tls.credential_name:
        return "", tls.credential_name
    if tls.server_certificate and tls.private_key:
        return tls.server_certificate, tls.private_key
    return None
