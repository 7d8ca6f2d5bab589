"""``python -m benchmarks.grpc_mtls_backend FOLDER``: a gRPC server of threads that obeys a mesh whose certificate, key and
bundle are in the folder. Prints as JSON its ``pid`` and its ports: ``plain`` and ``direct`` (mTLS) are grpcio's own, ``port``
(both) is of ``mesh.add_grpc_port``."""

from __future__ import annotations

import json
import os
import sys
from concurrent import futures
from pathlib import Path

import grpc

import meshlib
from benchmarks.grpc_backend import UNARY


def main(folder: Path) -> None:
    """Serve until stdin ends."""
    identity = meshlib.Identity.from_files(folder / "cert.pem", folder / "key.pem", folder / "bundle.pem")
    mesh = meshlib.Mesh.from_resources([], identity=identity)
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=mesh.grpc_server_interceptors())
    _, service, method = UNARY.split("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    ports = {
        "plain": server.add_insecure_port("127.0.0.1:0"),
        "direct": server.add_secure_port("127.0.0.1:0", mesh.grpc_server_credentials()),
        "port": mesh.add_grpc_port(server, "127.0.0.1:0"),
    }
    server.start()
    print(json.dumps({**ports, "pid": os.getpid()}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
