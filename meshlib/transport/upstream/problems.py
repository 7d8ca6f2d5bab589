"""What went wrong on the wire, in words; the same in every runtime."""

from __future__ import annotations

import os
import socket
import ssl

from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.wrong_address import SPEAKS_NO_TLS
from meshlib.identity.servers import NoCertificate, ServerRefused
from meshlib.problems import said
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.followed import UnusableFiles
from meshlib.transport.upstream.refused_certificates import HINT, may_refuse_late, refusal_at_first_read, refusal_in
from meshlib.transport.upstream.target import Target
from meshlib.transport.upstream.tls import PeerNameMismatch

MESH_CLOSED = "the mesh was closed while the call was under way"
CUT_HEAD = "the server closed the connection in the middle of the response's head"
BODY_CUT = "the server closed the connection in the middle of the response"
BODY_TOO_LATE = "the route's timeout passed in the middle of the response"
NO_RESPONSE = "the server closed the connection without a response"
NOT_SENT_IN_TIME = "no response in time: the request could not be sent"

_PLAIN_TEXT = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"))
"""What OpenSSL says of a server that responds with something else than TLS."""

HTTP2_REMEDY = "pip install 'sidecarless[http2]'"


def connect_problem(target: Target, error: BaseException) -> str:
    """Why there is no connection, in words."""
    if isinstance(error, socket.gaierror):
        return f"the name {target.host} was not found: {error.strerror}"
    if isinstance(error, (UnusableFiles, NoCertificate)):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS to {target}: the server's certificate is not trusted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        if refused := refusal_in(error):
            return certificate_refused(target, refused)
        reason: object = getattr(error, "reason", None)  # those that Python makes (gevent's timeouts, say) have none
        if reason in _PLAIN_TEXT:
            return f"{target} {SPEAKS_NO_TLS}"
        return f"TLS handshake with {target} failed: {reason or said(error)}"
    if isinstance(error, (PeerNameMismatch, ServerRefused)):
        return f"TLS to {target}: {said(error)}"
    # asyncio puts its own words where the system's reason was; the number is the same in both runtimes
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else said(error)
    return f"no connection to {target}: {text}"


def certificate_refused(target: Target, said: str) -> str:
    """A server does not take our certificate; ``said``: see ``refused_certificates``."""
    return f"TLS to {target}: the server does not accept us: {said}"


def no_connection(attempt: Attempt, limit: float | None, error: BaseException | None = None) -> Outcome:
    """No connection within ``limit`` seconds, the strictest of the limits on connecting."""
    return no_connection_to(attempt.target, attempt.head_timeout, limit, error)


def no_connection_to(
    target: Target, head_timeout: float | None, limit: float | None, error: BaseException | None = None
) -> Outcome:
    """The same, of an attempt of which this is known."""
    if limit is not None and limit == head_timeout:
        return Outcome(Failure.TIMEOUT, f"no connection to {target} within the {limit:.3g} s left", error)
    return Outcome(Failure.CONNECT_TIMEOUT, f"no connection to {target} within {limit or 0:g} s", error)


def no_slot(attempt: Attempt) -> Outcome:
    """The time that an attempt may wait for a slot has passed."""
    pool, head = attempt.caller.pool, attempt.head_timeout
    if pool is None or (head is not None and head <= pool):
        return Outcome(Failure.TIMEOUT, f"no connection of the client's limits was free within {head or 0:.3g} s")
    return Outcome(
        Failure.POOL_TIMEOUT,
        f"no connection of the client's limits (max_connections) was free within its pool timeout of {pool:g} s",
    )


def no_head(attempt: Attempt) -> Outcome:
    """The head of the response has not come in time."""
    return Outcome(Failure.TIMEOUT, f"no response within {attempt.head_timeout or 0:.3g} s")


def broke_at_first(target: Target, peer: object, error: BaseException) -> Outcome:
    """A connection ended before anything was read of it; ``peer``: its TLS object."""
    said = refusal_at_first_read(peer, error)
    if said:
        return Outcome(Failure.CONNECT_FAILED, certificate_refused(target, said), error)
    made = broke(error, False)
    if may_refuse_late(peer):
        made.detail += f" ({HINT})"
    return made


def broke(error: BaseException | None, stale: bool) -> Outcome:
    """The connection ended before the head of the response was whole; ``error``: what the system said, None at a plain end."""
    return Outcome(
        Failure.RESET, NO_RESPONSE if error is None else f"the connection broke: {said(error)}", error, stale=stale
    )


def not_written(limit: float | None) -> str:
    """The server takes no more of the request."""
    return f"the request could not be written within {limit} s"


def body_silent(limit: float | None) -> str:
    """Nothing more of the response's body came within the caller's read timeout."""
    return f"the caller's read timeout of {limit} s passed in the middle of the response"


def body_broke(error: BaseException) -> str:
    """The connection ended in the middle of the response's body."""
    return f"the connection broke in the middle of the response: {said(error)}"


def mesh_closed(error: BaseException | None = None) -> Outcome:
    """The mesh was closed before or during an attempt."""
    return Outcome(Failure.CLOSED, MESH_CLOSED, error)


def no_upgrade(target: Target) -> Outcome:
    """A WebSocket over plaintext HTTP/2."""
    return Outcome(
        Failure.INVALID_REQUEST,
        f"{target} is called over HTTP/2 (because of its port's name or its DestinationRule), and an upgrade to a WebSocket is "
        "HTTP/1.1: give the service a port for it that is named http or ws",
    )


def no_http2_package(target: Target, error: ImportError) -> Outcome:
    """HTTP/2 is configured and its library is not installed, or is not the one that the environment names."""
    detail = f"{target} is called over HTTP/2, which needs ngh2 or h2 ({error}): {HTTP2_REMEDY}"
    return Outcome(Failure.CONNECT_FAILED, detail, error)


def too_long(limit: int) -> Outcome:
    """A response that is to be read whole, and is longer than it may be."""
    return Outcome(Failure.PROTOCOL_ERROR, f"the body of the response is longer than {limit} bytes")
