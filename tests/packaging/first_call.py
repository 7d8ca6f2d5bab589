"""Run where only the wheel is installed, without network: a server on loopback, resources as dicts, one routed call."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import meshlib

HOST = "reviews"
RESOURCES: list[dict[str, object]] = [
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews"},
        "spec": {"hosts": [HOST], "http": [{"route": [{"destination": {"host": HOST, "subset": "v2"}}]}]},
    },
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "reviews"},
        "spec": {"host": HOST, "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]},
    },
]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"v2")

    def log_message(self, *_: object) -> None:
        """Nothing."""


def call() -> str:
    """What the first call brings, and where the mesh sent it."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    endpoints = {HOST: {"v1": "127.0.0.1:9", "v2": address}}
    with meshlib.Mesh.from_resources(RESOURCES, endpoints=endpoints) as mesh, mesh.client() as client:
        port = server.server_port
        response = client.get(f"http://{HOST}:{port}/reviews/0")
        taken = response.extensions["mesh"]
    server.shutdown()
    assert (taken.resource, taken.subset, taken.endpoint) == ("VirtualService/default/reviews", "v2", address), taken
    return response.text


if __name__ == "__main__":
    assert call() == "v2"
