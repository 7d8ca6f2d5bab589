"""``meshlib demo grpc``: plays the shop of ``examples/grpc-shop``, two gRPC services whose calls go through meshlib.

The application itself (services, .proto files, YAML) lies in ``examples/grpc-shop``, and as ``app/`` beside this file when
meshlib was installed from a wheel. Here is what starts its processes, calls it and judges what comes back.
"""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path(__file__).parent / "app"
_CLONED = Path(__file__).parents[3] / "examples" / "grpc-shop"

APP = _INSTALLED if _INSTALLED.is_dir() else _CLONED
"""The folder of the application: ``mesh/`` and the package ``shop/``."""
CONFIG = APP / "mesh"
"""The folder of its YAML."""
