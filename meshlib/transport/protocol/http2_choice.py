"""Which library speaks HTTP/2: nghttp2 or h2, by what is installed and what the environment says."""

from __future__ import annotations

import functools
import importlib.util
import os

from meshlib.transport.protocol.http2_codec import CHOICE, Factory, SecretHeader


def installed() -> bool:
    """Whether there is a library at all."""
    return any(importlib.util.find_spec(name) is not None for name in ("ngh2", "h2"))


@functools.cache
def preferred() -> Factory:
    """nghttp2 where it is installed, else h2; ``MESHLIB_HTTP2`` overrules. Raises ImportError."""
    wanted = os.environ.get(CHOICE, "")
    if wanted not in ("", "h2", "ngh2"):
        raise ImportError(f"{CHOICE} is {wanted!r}; it must be h2 or ngh2")
    if wanted == "ngh2" or (not wanted and importlib.util.find_spec("ngh2") is not None):
        from meshlib.transport.protocol.http2_ngh2 import Ngh2Codec

        if not SecretHeader.__module__.startswith("ngh2"):  # nghttp2 would put secrets into its table
            raise ImportError(f"{CHOICE} was h2 when meshlib was imported, and is not any more")
        return Ngh2Codec
    from meshlib.transport.protocol.http2_h2 import H2Codec

    return H2Codec
