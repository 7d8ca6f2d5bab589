"""The libraries that HTTP/2 can stand on here."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from meshlib.transport.protocol import http2
from meshlib.transport.protocol.http2_codec import Factory
from meshlib.transport.protocol.http2_h2 import H2Codec

CODECS: dict[str, Factory] = {"h2": H2Codec}
if importlib.util.find_spec("ngh2") is not None:
    from meshlib.transport.protocol.http2_ngh2 import Ngh2Codec

    CODECS["ngh2"] = Ngh2Codec


@contextlib.contextmanager
def sessions_on(name: str) -> Iterator[None]:
    """New sessions stand on this one."""
    before, http2.preferred = http2.preferred, lambda: CODECS[name]
    try:
        yield
    finally:
        http2.preferred = before
