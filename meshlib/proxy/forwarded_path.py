"""The path that a request is routed by and forwarded with: normalized as MeshConfig's pathNormalization says.

In every version of HTTP, and before anything is decided by it: what a rule matches is what the upstream gets.
"""

from __future__ import annotations

from meshlib.policy.path_spellings import Normalization, normalize
from meshlib.transport.protocol.http1_request import Refused
from meshlib.transport.protocol.request_target import KEPT

_IN_PATHS = bytes(range(0x21, 0x7F))
KEEP_SLASHES: tuple[Normalization, ...] = ("BASE", "NONE")
"""The normalizations that leave slashes as they are."""
_NUL = b"%00"
_FAILED = "path_normalization_failed"


def forwarded_path(target: bytes, normalization: Normalization) -> bytes:
    """``target``: path and query, beginning with a slash. The query stays as it is. Raises ``Refused`` (400) for ``%00``, as
    Envoy does, and, stricter, for a byte that is not ASCII (HTTP/2 lets them pass, and Envoy escapes them) and for a path
    that would be yet another one if somebody behind us normalized it again: ``/a/%2e%2e;/b``."""
    slashes = normalization in KEEP_SLASHES
    # ``find``, not ``in``, which takes the bytes for a number first and makes an exception of that
    if not target.translate(None, KEPT) and target.find(b"/.") < 0 and (slashes or target.find(b"//") < 0):
        return target  # nearly all: that a query may look like something to normalize only costs the longer way
    path, mark, query = target.partition(b"?")
    if _NUL in path or path.translate(None, _IN_PATHS):
        raise Refused(400, "the request's path holds %00, or a byte that has to be escaped", _FAILED, "")
    if normalization == "NONE":
        return target
    text = path.decode("latin-1")
    made = normalize(text, normalization)
    if made == text:
        return target
    if normalize(made, normalization) != made:
        raise Refused(
            400, "the request's path changes each time it is normalized, so that two readers see two paths", _FAILED, ""
        )
    return made.encode("latin-1") + mark + query
