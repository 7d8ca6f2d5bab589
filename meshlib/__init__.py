"""meshlib: a service mesh as a Python library.

Istio's YAML drives your HTTP calls in process::

    import meshlib

    mesh = meshlib.Mesh.from_path("mesh/")
    with mesh.client() as client:
        client.get("http://reviews:9080/reviews/0")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.distribution import check as _check

if TYPE_CHECKING:
    from meshlib import errors
    from meshlib.engine.explanation import Exchange
    from meshlib.identity.identity import Identity
    from meshlib.mesh import Mesh
    from meshlib.transport.asgi.middleware import MeshASGIMiddleware
    from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
    from meshlib.workload import Workload

__version__ = "0.1.0"
__distribution__ = "sidecarless"
__all__ = [
    "Exchange",
    "Identity",
    "Mesh",
    "MeshASGIMiddleware",
    "MeshWSGIMiddleware",
    "Workload",
    "__version__",
    "errors",
]

_HOMES = {
    "Exchange": "meshlib.engine.explanation",
    "Identity": "meshlib.identity.identity",
    "Mesh": "meshlib.mesh",
    "MeshASGIMiddleware": "meshlib.transport.asgi.middleware",
    "MeshWSGIMiddleware": "meshlib.transport.wsgi.middleware",
    "Workload": "meshlib.workload",
}


if not TYPE_CHECKING:  # what is not there is an error for type checkers, too

    def __getattr__(name: str) -> object:
        """Names are loaded on first use, so that ``import meshlib`` costs next to nothing."""
        import importlib

        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if name == "errors":
            return importlib.import_module("meshlib.errors")
        raise AttributeError(f"module 'meshlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_check()
