"""The scope as the application gets it, where something of the request changes for it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from meshlib.transport.asgi.messages import Scope
    from meshlib.transport.asgi.request import AsgiRequest


def changed(scope: Scope, request: AsgiRequest) -> Scope:
    """A copy, with the headers and the target that the checks leave. Of a target in absolute form (``http://host/path``)
    the application gets the path, by which it was judged."""
    found = {**scope}
    path = request.path.encode("latin-1") if request.absolute else None
    changes = request.for_application
    if changes is not None:
        found["headers"] = changes.applied(list(scope["headers"]))
        if changes.target is not None:
            target, _, query = changes.target.partition(b"?")
            found["query_string"] = query
            if target != request.path.encode("latin-1", "replace"):
                path = target
    if path is not None:
        found["path"] = scope.get("root_path", "") + unquote(path.decode("latin-1"))
        found["raw_path"] = path
    return found
