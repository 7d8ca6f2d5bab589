"""What checks change of a request, in the environ that the application gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.path_spellings import decode

if TYPE_CHECKING:
    from meshlib.engine.header_changes import HeaderChanges
    from meshlib.transport.wsgi.contracts import Environ
    from meshlib.transport.wsgi.request import WsgiRequest

WITHOUT_PREFIX = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
TARGETS = ("RAW_URI", "REQUEST_URI")


def apply(changes: HeaderChanges, request: WsgiRequest, environ: Environ) -> None:
    """Change ``environ``. A header that is taken away goes in every spelling that CGI has for it."""
    request.read()
    for name in changes.remove:
        folded = name.replace("-", "_").upper()
        environ.pop(f"HTTP_{folded}", None)
        if name in WITHOUT_PREFIX:
            environ.pop(WITHOUT_PREFIX[name], None)
    for raw_name, raw_value in changes.set:
        name = raw_name.decode("latin-1").lower()
        key = WITHOUT_PREFIX.get(name) or "HTTP_" + name.replace("-", "_").upper()
        value = raw_value.decode("latin-1")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if changes.target is not None:
        _retarget(changes.target.decode("latin-1"), request, environ)


def _retarget(target: str, request: WsgiRequest, environ: Environ) -> None:
    path, _, query = target.partition("?")
    environ["QUERY_STRING"] = query
    for key in TARGETS:
        if key in environ:
            environ[key] = target
    if path != request.path:
        script = environ.get("SCRIPT_NAME") or ""
        decoded = decode(path)
        environ["PATH_INFO"] = decoded[len(script) :] if decoded.startswith(script) else decoded
