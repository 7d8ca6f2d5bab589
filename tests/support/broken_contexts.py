"""TLS contexts that show a certificate of ``broken_svids``, whatever is wrong with it."""

from __future__ import annotations

import ssl
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.identity.memory_file import memory_file
from meshlib.security.authority import Authority
from tests.support.broken_svids import KEY_PEM, signed


def showing(context: ssl.SSLContext, signer: Authority, now: float, **wrong: Any) -> ssl.SSLContext:
    """``context`` with a leaf of ``signer``; ``wrong`` as of ``signed``."""
    leaf = signed(signer, now, **wrong).public_bytes(Encoding.PEM)
    with memory_file(KEY_PEM, leaf) as path:
        context.load_cert_chain(path)
    return context
