"""An identity from istiod, as MESHLIB_CA and its companions describe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.problems import MeshError
from meshlib.workload import DEFAULT_TRUST_DOMAIN

if TYPE_CHECKING:
    from meshlib.identity.identity import Identity

CA, TOKEN, ROOT = NAMES = ("MESHLIB_CA", "MESHLIB_CA_TOKEN", "MESHLIB_CA_ROOT")
FILES = ("MESHLIB_CERT", "MESHLIB_KEY", "MESHLIB_BUNDLE")


def identity_of_istiod(environ: Mapping[str, str]) -> Identity | None:
    """MESHLIB_CA (host:port of istiod), MESHLIB_CA_TOKEN and MESHLIB_CA_ROOT (files, never the token itself), with the
    workload's MESHLIB_TRUST_DOMAIN; None without any of the three. Raises ``MeshError`` when some are set and others are not,
    or files of a certificate are named as well, ``BadCredentials`` for what is not an address."""
    given = [name for name in NAMES if environ.get(name)]
    if not given:
        return None
    missing = [name for name in NAMES if name not in given]
    if missing:
        raise MeshError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} required with {' and '.join(given)}: an identity "
            "from istiod needs its address, the file of a token and the file of its roots; give all three, or none"
        )
    twice = [name for name in FILES if environ.get(name)]
    if twice:
        raise MeshError(f"{CA} and {' and '.join(twice)} both say where the certificate comes from; give one of them")
    from meshlib.identity.identity import Identity

    return Identity.from_istiod(
        environ[CA],
        environ[TOKEN],
        environ[ROOT],
        trust_domain=environ.get("MESHLIB_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN,
    )
