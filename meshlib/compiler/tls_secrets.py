"""``credentialName`` of a DestinationRule: certificates and keys out of Kubernetes Secrets of the workload's own namespace, by
the keys that istiod knows. Nothing here shows what is in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.resources.kubernetes import Secret

CA_SUFFIX = "-cacert"
_SCHEME = "kubernetes://"
_CONFIG_MAP = "configmap://"
_CA_KEYS = (("cacert", "crl"), ("ca.crt", "ca.crl"))
_PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))


@dataclass(frozen=True, slots=True)
class Credential:
    """PEM, b"" where there is none. ``problem``: why it cannot be used, "" when it can."""

    ca: bytes = field(default=b"", repr=False)
    crl: bytes = field(default=b"", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    problem: str = ""


class Secrets:
    """The Secrets of one namespace."""

    __slots__ = ("_by_name", "namespace")

    def __init__(self, resources: Iterable[Secret], namespace: str) -> None:
        self.namespace = namespace
        self._by_name = {secret.name: secret for secret in resources if secret.namespace == namespace}

    def has(self, name: str) -> bool:
        """Whether there is a Secret of this name, whatever is in it."""
        return name in self._by_name

    def credential(self, written: str, *, mutual: bool, verifies: bool) -> Credential:
        """What ``credentialName`` names. ``mutual``: certificate and key are needed; ``verifies``: roots are, of the same
        Secret or of that with ``-cacert`` at its name, which counts first."""
        if written.startswith(_CONFIG_MAP):
            return Credential(problem=f"{written} is a ConfigMap: those are not read; name a Secret")
        namespace, _, name = written.removeprefix(_SCHEME).rpartition("/")
        if namespace not in ("", self.namespace):
            return Credential(
                problem=f"{written} is of another namespace; a workload reads Secrets of its own, {self.namespace}"
            )
        try:
            certificate, key = self._pair(name) if mutual else (b"", b"")
            ca, crl = self._roots(name) if verifies else (b"", b"")
        except _Unusable as error:
            return Credential(problem=str(error))
        return Credential(ca, crl, certificate, key)

    def _pair(self, name: str) -> tuple[bytes, bytes]:
        secret = self._by_name.get(name)
        if secret is None:
            raise self._missing(name)
        for certificate, key in _PAIRS:
            found = _value(secret, certificate), _value(secret, key)
            if all(found):
                return found
        _not_empty(secret, [key for pair in _PAIRS for key in pair])
        raise _Unusable(
            f"Secret {secret.namespace}/{secret.name} has neither tls.crt and tls.key nor cert and key ({_keys(secret)})"
        )

    def _roots(self, name: str) -> tuple[bytes, bytes]:
        secret = self._by_name.get(name + CA_SUFFIX) or self._by_name.get(name)
        if secret is None:
            raise self._missing(name)
        for roots, revoked in _CA_KEYS:
            found = _value(secret, roots)
            if found:
                return found, _value(secret, revoked)
        _not_empty(secret, [key for key, _ in _CA_KEYS])
        raise _Unusable(
            f"Secret {secret.namespace}/{secret.name} has neither ca.crt nor cacert, by which the server is verified "
            f"({_keys(secret)})"
        )

    def _missing(self, name: str) -> _Unusable:
        return _Unusable(f"there is no Secret {self.namespace}/{name} among the resources")


class _Unusable(Exception):
    """Of a Secret."""


def _value(secret: Secret, key: str) -> bytes:
    plain = (secret.string_data or {}).get(key)
    if plain is not None:
        return plain.encode("utf-8", "surrogatepass")
    encoded = (secret.data or {}).get(key, "")
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _Unusable(f"{key} of Secret {secret.namespace}/{secret.name} is not valid base64") from None


def _not_empty(secret: Secret, keys: Iterable[str]) -> None:
    there = {**(secret.data or {}), **(secret.string_data or {})}
    for key in keys:
        if key in there and not _value(secret, key):
            raise _Unusable(f"{key} of Secret {secret.namespace}/{secret.name} is empty")


def _keys(secret: Secret) -> str:
    """The names of what is there."""
    names: Mapping[str, str] = {**(secret.data or {}), **(secret.string_data or {})}
    return f"it has {', '.join(sorted(names)[:5])}" if names else "it is empty"
