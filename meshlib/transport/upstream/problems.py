"""What went wrong on the wire, in words; the same in every runtime."""

from __future__ import annotations

import os
import ssl

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.upstream.followed import UnusableFiles
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import PeerNameMismatch

MESH_CLOSED = "the mesh was closed while the call was under way"
CUT_HEAD = "the server closed the connection in the middle of the answer's head"


HTTP2_REMEDY = "pip install 'sidecarless[http2]'"


def connect_problem(target: Target, error: BaseException) -> str:
    """Why there is no connection, in words."""
    if isinstance(error, UnusableFiles):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS to {target}: the server's certificate is not trusted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake with {target} failed: {error.reason or error}"
    if isinstance(error, PeerNameMismatch):
        return f"TLS to {target}: {error}"
    # asyncio puts its own words where the system's reason was; the number is the same in both runtimes
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return f"no connection to {target}: {text}"


def mesh_closed(error: BaseException | None = None) -> Outcome:
    """The mesh was closed before or during an attempt."""
    return Outcome(Failure.CLOSED, MESH_CLOSED, error)


def no_upgrade(target: Target) -> Outcome:
    """A WebSocket over plaintext HTTP/2."""
    return Outcome(
        Failure.INVALID_REQUEST,
        f"{target} is spoken to in HTTP/2 (by its port's name or its DestinationRule), and an upgrade to a WebSocket is "
        "HTTP/1.1: give the service a port for it that is named http or ws",
    )


def no_http2_package(target: Target, error: ImportError) -> Outcome:
    """HTTP/2 is configured and its library is not installed, or is not the one that the environment names."""
    detail = f"{target} is called over HTTP/2, which needs ngh2 or h2 ({error}): {HTTP2_REMEDY}"
    return Outcome(Failure.CONNECT_FAILED, detail, error)
