"""The workload, its identity and its options as MESHLIB_* variables describe them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from meshlib.compiler.compile import HTTPS_RULES, HttpsRules
from meshlib.problems import MeshError
from meshlib.workload import DEFAULT, DEFAULT_TRUST_DOMAIN, Workload

if TYPE_CHECKING:
    from meshlib.identity.identity import Identity
    from meshlib.resources.endpoints_argument import EndpointsByHost

FILES = ("MESHLIB_CERT", "MESHLIB_KEY", "MESHLIB_BUNDLE")


def workload_from_env(environ: Mapping[str, str]) -> Workload:
    """MESHLIB_WORKLOAD, _NAMESPACE, _LABELS (``k=v,k=v``), _SERVICE_ACCOUNT, _TRUST_DOMAIN, _LOCALITY
    (``region/zone/subzone``), _ADDRESS (else INSTANCE_IP or POD_IP, which pods of Istio have). Raises ``MeshError`` for
    labels that are not pairs."""
    return Workload(
        name=environ.get("MESHLIB_WORKLOAD", "unknown"),
        namespace=environ.get("MESHLIB_NAMESPACE", DEFAULT),
        labels=parse_labels(environ.get("MESHLIB_LABELS", ""), "MESHLIB_LABELS"),
        service_account=environ.get("MESHLIB_SERVICE_ACCOUNT", DEFAULT),
        trust_domain=environ.get("MESHLIB_TRUST_DOMAIN", DEFAULT_TRUST_DOMAIN),
        locality=environ.get("MESHLIB_LOCALITY", ""),
        address=environ.get("MESHLIB_ADDRESS") or environ.get("INSTANCE_IP") or environ.get("POD_IP", ""),
    )


def https_rules_from_env(environ: Mapping[str, str]) -> HttpsRules:
    """MESHLIB_HTTPS_RULES, "mesh" when it is not set. Raises ``MeshError`` for another word than "mesh" and "istio"."""
    value = environ.get("MESHLIB_HTTPS_RULES") or "mesh"
    for known in HTTPS_RULES:
        if value == known:
            return known
    raise MeshError(f"MESHLIB_HTTPS_RULES must be {' or '.join(HTTPS_RULES)}, not {value!r}")


def endpoints_from_env(environ: Mapping[str, str], namespace: str) -> EndpointsByHost | Literal["dns"] | None:
    """MESHLIB_ENDPOINTS, ``dns`` or such as ``reviews=v1@:9081,v2@:9082 ratings=:9083``, for a workload of ``namespace``; None
    when it says nothing. Raises ``ConfigError`` for what cannot be an address."""
    words = environ.get("MESHLIB_ENDPOINTS", "").split()
    if not words:
        return None
    if words == ["dns"]:
        return "dns"
    from meshlib.resources.endpoints_text import endpoints_of_words

    return endpoints_of_words(words, file="MESHLIB_ENDPOINTS", namespace=namespace)


def identity_from_env(environ: Mapping[str, str]) -> Identity | None:
    """MESHLIB_CERT, MESHLIB_KEY, MESHLIB_BUNDLE (files; see ``parse_bundles``), or MESHLIB_CA and its companions (istiod); None
    without any of them. Raises ``MeshError`` when some are set and others are not."""
    from meshlib.sources.istiod_environment import identity_of_istiod

    found = identity_of_istiod(environ)
    if found is not None:
        return found
    return identity_of_files(*(environ.get(name, "") for name in FILES), named=FILES)


def identity_of_files(
    cert: str, key: str, bundle: str, *, named: Sequence[str] = FILES, wait: bool = False
) -> Identity | None:
    """The identity that was given as three texts, which are called ``named`` there; None when all are "".
    Raises ``MeshError`` naming what is missing. ``wait``: as of ``Identity.from_files``."""
    given = dict(zip(named, (cert, key, bundle), strict=True))
    missing = [name for name, value in given.items() if not value]
    if len(missing) == len(given):
        return None
    if missing:
        there = " and ".join(name for name, value in given.items() if value)
        raise MeshError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} required with {there}: an identity is a "
            "certificate with its intermediates, its key, and the bundle of roots that are trusted; give all three, or none"
        )
    from meshlib.identity.identity import Identity

    return Identity.from_files(cert, key, parse_bundles(bundle, named[2]), wait=wait)


def parse_bundles(text: str, what: str) -> dict[str, str]:
    """Files by trust domain, "" for our own: ``roots.pem``, or several, separated as in PATH:
    ``roots.pem:other.example=other.pem``. Raises ``MeshError`` naming ``what`` when two are of one trust domain."""
    found: dict[str, str] = {}
    for item in filter(None, text.split(os.pathsep)):
        domain, equals, file = item.partition("=")
        if not equals or "/" in domain:  # a path that has a "="
            domain, file = "", item
        if domain in found:
            whose = f"the trust domain {domain}" if domain else "our own trust domain"
            raise MeshError(
                f"{what}: {found[domain]} and {file} are both for {whose}; write others as other.example=FILE"
            )
        found[domain] = file
    return found


def parse_labels(text: str, what: str) -> dict[str, str]:
    """``{"app": "reviews"}`` of ``app=reviews``. Raises ``MeshError`` naming ``what`` and the part that is not a pair."""
    labels = {}
    for pair in text.split(","):
        if not pair.strip():
            continue
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise MeshError(f"{what}: {pair!r} is not key=value; write it as app=reviews,version=v1")
        labels[key.strip()] = value.strip()
    return labels
