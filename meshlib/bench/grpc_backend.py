"""A gRPC server that sends back what it is sent: bytes, no generated code, on grpcio's asyncio server.

``python -m meshlib.bench.grpc_backend [FOLDER]``: prints ``{"port": P, "tls": P}``, the second of mTLS with the certificates of
the folder (``certificates.py``), and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

from meshlib.bench.measuring import reply
from meshlib.bench.web_backend import ALL_ADDRESSES, until_stdin_ends

UNARY = "/bench.Echo/Unary"


async def unary(request: bytes, context: Any) -> bytes:
    """The request again."""
    return request


def mutual_tls(folder: Path) -> Any:
    """Of a server whose callers need a certificate."""
    pair = (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], (folder / "bundle.pem").read_bytes(), require_client_auth=True)


async def main(folder: Path | None) -> None:
    """Until standard input ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    _, service, method = UNARY.split("/")
    handler: Any = grpc.unary_unary_rpc_method_handler(unary)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    first, *others = ALL_ADDRESSES
    ports = {"port": server.add_insecure_port(f"{first}:0")}
    for address in others:
        server.add_insecure_port(f"{address}:{ports['port']}")
    if folder is not None:
        credentials = mutual_tls(folder)
        ports["tls"] = server.add_secure_port(f"{first}:0", credentials)
        for address in others:
            server.add_secure_port(f"{address}:{ports['tls']}", credentials)
    await server.start()
    reply(ports)
    until_stdin_ends(asyncio.get_running_loop())
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else None))
