"""Bookinfo of services that know nothing of the mesh, a proxy beside each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshlib.demo.bookinfo.play.application import Application
from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.sidecar.child import Behind


class Sidecars(Application):
    """An ``Application`` whose replicas are ``Behind`` a proxy."""

    processes = "productpage, details, reviews v1 v2 v3, ratings, and a proxy beside each of them"
    traced = False

    @property
    def url(self) -> str:
        """What productpage says of the book."""
        return f"{self.find('productpage').address}/api/v1/products/0/reviews"

    def fail(self, child: Child, mode: str) -> None:
        """Turn a replica's switch, past its proxy."""
        self._behind(child).tell_app(mode=mode)

    def status(self, child: Child) -> dict[str, Any]:
        """``mesh.status()`` of its proxy."""
        return self._behind(child).ask("/status")

    def where_to_look(self) -> Iterable[str]:
        """Into the proxies."""
        socket = self._behind(self.find("productpage")).admin
        return [
            f"What productpage's proxy knows: curl --unix-socket {socket} http://admin/clusters (and /stats/prometheus, /calls)"
        ]

    @staticmethod
    def _behind(child: Child) -> Behind:
        assert isinstance(child, Behind)
        return child

    def _child(self, service: str, version: str) -> Child:
        number = 1 + sum(c.service == service and c.version == version for c in self.children)
        port = self._port if service == "productpage" else 0
        child = Behind(service, version, f"{service}-{version}-{number}", self.folder.path, self.logs, port)
        self.children.append(child)  # before anything can fail, so that stop() knows it
        return child
