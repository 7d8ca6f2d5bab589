"""The folder of YAML that every process of the application watches, and the swaps that change the mesh under them.

Files: ``application.yaml`` (Services), ``endpoints.yaml`` (Pods and EndpointSlices of the running processes),
``defaults.yaml`` (our DestinationRules, less those the traffic file replaces), ``traffic.yaml`` (what is being played,
byte for byte). Each is replaced by one rename: no reader ever sees half a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from meshlib.demo.bookinfo import CONFIG
from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.discovery import endpoint_resources

ResourceKey = tuple[str, str, str]
PORT = 9080
EMPTY = b"# meshlib: empty\n"
"""A file that holds nothing on purpose: one that was merely emptied would keep its resources."""


class MeshFolder:
    """``path`` is the watched folder; files are prepared in ``staging``, beside it on the same file system."""

    def __init__(self, root: Path) -> None:
        self.path = root / "mesh"
        self._staging = root / "staging"
        self.path.mkdir()
        self._staging.mkdir()
        self._write("application.yaml", (CONFIG / "application.yaml").read_bytes())
        self._defaults = list(yaml.safe_load_all((CONFIG / "destination-rules.yaml").read_text("utf-8")))
        self.play(b"")

    def endpoints(self, children: Iterable[Child]) -> None:
        """Publish who serves: discovery's part."""
        self._write(
            "endpoints.yaml",
            _dump([doc for child in children for doc in endpoint_resources(child, "bookinfo", "http")]),
        )

    def play(self, traffic: bytes, *, beside: Sequence[dict[str, Any]] = ()) -> None:
        """Make ``traffic`` the rules of the mesh, with our DestinationRules and ``beside`` for what it does not name.

        As with ``kubectl apply``, a resource of the same kind and name replaces ours.
        """
        named = keys_of(traffic)
        beside = [doc for doc in beside if key_of(doc) not in named]
        named |= {key_of(doc) for doc in beside}
        self._write("defaults.yaml", _dump([*(d for d in self._defaults if key_of(d) not in named), *beside]))
        self._write("traffic.yaml", traffic)

    def _write(self, name: str, data: bytes) -> None:
        prepared = self._staging / name
        prepared.write_bytes(data or EMPTY)
        os.replace(prepared, self.path / name)


def keys_of(text: bytes) -> set[ResourceKey]:
    """Kind, namespace and name of every document."""
    return {key_of(doc) for doc in documents(text)}


def documents(text: bytes) -> list[dict[str, Any]]:
    """The resources of a YAML file, those inside a ``kind: List`` included."""
    found: list[dict[str, Any]] = []
    for doc in yaml.safe_load_all(text):
        inner = doc.get("items") if isinstance(doc, dict) and str(doc.get("kind", "")).endswith("List") else [doc]
        found += [item for item in inner or () if isinstance(item, dict)]
    return found


def key_of(doc: dict[str, Any]) -> ResourceKey:
    """Kind, namespace and name."""
    meta = doc.get("metadata") or {}
    return str(doc.get("kind", "")), str(meta.get("namespace") or "default"), str(meta.get("name", ""))


def _dump(docs: Sequence[dict[str, Any]]) -> bytes:
    return yaml.safe_dump_all(docs, sort_keys=False).encode() if docs else b""
