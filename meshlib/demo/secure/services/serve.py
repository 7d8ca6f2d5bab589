"""One service as a process: ``python -m meshlib.demo.secure.services.serve reviews --mesh FOLDER --svid FOLDER``.

One mesh does both: it protects the server (mTLS by the PeerAuthentication of the moment, tokens, policies) and makes its calls,
by the certificate in ``--svid``, which it follows. Prints a line of JSON with its port when it serves; responds to each line on
its standard input with what it knows of itself; ends when that closes, so it leaves no orphan.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from fastapi import FastAPI

import meshlib
from meshlib.demo.bookinfo.services import details, productpage, ratings, reviews
from meshlib.demo.bookinfo.services.serve import GRACE_SECONDS, SERVICES, bind, workload_of
from meshlib.security.peer_certificate import identity_of
from meshlib.serving.http_server import HttpServer, HttpSettings

Asgi = Callable[[MutableMapping[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]


class Witness:
    """Counts who has called, by the certificate that was shown; "" is plain text."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self.callers: Counter[str] = Counter()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain") or ()
            found = identity_of(chain[0]) if chain else None
            self.callers[str(found or "")] += 1
        await self._app(scope, receive, send)


def build(service: str, version: str, pod: str, mesh: meshlib.Mesh) -> FastAPI:
    """The service's application, unchanged: it knows nothing of certificates."""
    if service == "details":
        return details.create_app(version=version, pod=pod)
    if service == "ratings":
        return ratings.create_app(version=version, pod=pod)
    create = productpage.create_app if service == "productpage" else reviews.create_app
    return create(mesh.async_client(), version=version, pod=pod)


def listen_to_parent(server: HttpServer, mesh: meshlib.Mesh, identity: meshlib.Identity, witness: Witness) -> None:
    """A line on standard input is a question; its end is the end."""

    def listen() -> None:
        while sys.stdin.buffer.readline():
            current = identity.current()
            leaf = None if current is None else x509.load_der_x509_certificate(current.svid.leaf)
            _say(
                {
                    "version": mesh.status()["version"],
                    "identity": identity.status(),
                    "serial": "" if leaf is None else f"{leaf.serial_number:x}",
                    "roots": 0 if current is None else len(current.bundles.roots),
                    "callers": dict(witness.callers),
                    "connections": dict(server.acceptor.counts),
                }
            )
        server.should_exit = True
        threading.Event().wait(GRACE_SECONDS + 2)
        os._exit(0)

    threading.Thread(target=listen, name="lifeline", daemon=True).start()


def _say(fact: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m meshlib.demo.secure.services.serve", description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--mesh", required=True, help="folder of the mesh's YAML, watched for changes")
    parser.add_argument("--svid", type=Path, required=True, help="folder with cert.pem, key.pem, bundle.pem, followed")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    identity = meshlib.Identity.from_files(args.svid / "cert.pem", args.svid / "key.pem", args.svid / "bundle.pem")
    workload = workload_of(args.service, args.version)
    mesh = meshlib.Mesh.from_path(args.mesh, watch=True, workload=workload, identity=identity)
    witness = Witness(build(args.service, args.version, f"{args.service}-{args.version}-1", mesh))
    sock = bind(0)
    sock.listen(256)
    settings = HttpSettings(drain=GRACE_SECONDS, access_log=False)
    server = HttpServer(
        meshlib.MeshASGIMiddleware(witness, mesh),
        mesh._core,  # as ``meshlib serve`` does
        sock,
        settings,
        ready=lambda: _say({"port": sock.getsockname()[1], "pid": os.getpid()}),
    )
    listen_to_parent(server, mesh, identity, witness)
    server.run()
    mesh.close()


if __name__ == "__main__":
    main()
