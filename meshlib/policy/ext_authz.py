"""What an authorizer is told and what it decides (AuthorizationPolicy's action CUSTOM; Envoy's filter ext_authz), whichever
protocol it speaks: ``ext_authz_http.py``, ``ext_authz_grpc.py``.

Whatever it sends that cannot be a header, that frames messages, or that makes another request of this one, does not get
through: see docs/parity.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from meshlib.policy.name_patterns import NamePatterns
from meshlib.policy.refusal import Refusal

FLAG = "UAEX"
DENIED, ERROR, INVALID = "ext_authz_denied", "ext_authz_error", "ext_authz_invalid"
"""Envoy's response code details."""
TOO_LARGE = Refusal(413, "Payload Too Large", detail="request_payload_too_large")
"""The body is longer than the authorizer is to see, and it is to see all of it. As in Envoy failOpen does not help here."""
PARTIAL = "x-envoy-auth-partial-body"
LONGEST_RESPONSE = 256 * 1024
"""Bytes of what an authorizer may say; more is an error."""

FRAMING = frozenset((
    "connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
))  # fmt: skip
"""Headers of one connection, or of how long a body is: neither asked, nor taken from an authorizer."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_NOT_IN_A_VALUE = re.compile(rb"[\0\r\n]")
_QUERY = re.compile(r"[\x21\x24\x25\x27-\x3b\x3f-\x5b\x5d-\x7e]*")
"""What a name or a value in a query is written with: no controls, spaces, quotes, ``#``, ``&``, ``<``, ``=``, ``>``, ``\\``."""


NONE = NamePatterns()


@dataclass(frozen=True, slots=True)
class BodyShown:
    """``includeRequestBodyInCheck``: the first ``most`` bytes. Longer bodies are only shown in part if they ``may_be_cut``;
    ``as_bytes``: as they are, not as text (gRPC)."""

    most: int
    may_be_cut: bool = False
    as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class Authorizer:
    """One provider. ``timeout`` in seconds. ``request_headers`` are shown (over HTTP, beside Authorization, method, path and
    Host, which always are), ``additional`` ones set; ``to_application``, ``to_caller_on_allow`` and ``to_caller_on_deny``
    (None: all) are those of its response that go on."""

    name: str
    protocol: Literal["http", "grpc"]
    host: str
    timeout: float = 600.0
    fail_open: bool = False
    status_on_error: int = 403
    body: BodyShown | None = None
    path_prefix: str = ""
    request_headers: NamePatterns = NONE
    additional: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    to_application: NamePatterns = NONE
    to_caller_on_allow: NamePatterns = NONE
    to_caller_on_deny: NamePatterns | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that an authorizer is asked about, as it is on its way to the application. ``target`` is path and query,
    ``headers`` have their names in lower case; texts are wire strings. ``body`` None: none is shown; ``cut``: there is more.
    ``received``: seconds since 1970. ``own``: over TLS, the SPIFFE ID that we have shown."""

    method: str
    target: str
    authority: str
    headers: Mapping[str, Sequence[str]] = field(repr=False)
    scheme: str = "http"
    http_version: str = "HTTP/1.1"
    body: bytes | None = field(default=None, repr=False)
    cut: bool = False
    peer: str = ""
    principal: str = ""
    local_ip: str = ""
    port: int = 0
    received: float = 0.0
    own: str = ""


Action: TypeAlias = Literal["set", "add", "append", "add_if_absent", "set_if_present"]
"""``append``: to the value that is there, after a comma, or not at all; ``add``: one more."""


@dataclass(frozen=True, slots=True)
class Change:
    """One header (``name`` in lower case) of a request or a response."""

    name: str
    value: bytes = field(repr=False)
    action: Action = "set"


@dataclass(frozen=True, slots=True)
class Allowed:
    """It may come in, changed. ``to_caller``: of the response to it."""

    changes: tuple[Change, ...] = ()
    remove: tuple[str, ...] = ()
    to_caller: tuple[Change, ...] = ()
    query_set: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query_remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """It may not, and this is what the caller gets."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The authorizer has not decided: ``why``, for people. ``instead``: what the caller gets in place of the provider's
    ``statusOnError``, where the authorizer says it."""

    why: str
    instead: Denied | None = None


@dataclass(frozen=True, slots=True)
class Invalid:
    """It says what no header can say: ``why``. Nobody comes in, whatever failOpen says."""

    why: str


Verdict: TypeAlias = Allowed | Denied | Failed | Invalid


def what_is_wrong(change: Change) -> str:
    """Why an authorizer must not set this header; "" when it may."""
    name = change.name
    if name.startswith(":") or name == "host":
        return f"it changes {name}, which makes another request of this one"
    if _TOKEN.fullmatch(name) is None:
        return "it sets a header with a name that is not a valid one"
    if _NOT_IN_A_VALUE.search(change.value) is not None:
        return f"it sets {name} to what is not a valid header value"
    return ""


def checked(allowed: Allowed) -> Allowed | Invalid:
    """What is left of it: without headers of framing; or what is wrong with it."""
    for change in (*allowed.changes, *allowed.to_caller):
        problem = what_is_wrong(change)
        if problem:
            return Invalid(problem)
    for name, value in allowed.query_set:
        if not name or _QUERY.fullmatch(name) is None or _QUERY.fullmatch(value.replace("=", "")) is None:
            return Invalid("it sets a query parameter that is not written as in a URL")
    return Allowed(
        tuple(change for change in allowed.changes if change.name not in FRAMING),
        tuple(name for name in allowed.remove if name not in FRAMING and name != "host" and not name.startswith(":")),
        tuple(change for change in allowed.to_caller if change.name not in FRAMING),
        allowed.query_set,
        allowed.query_remove,
    )


def denied(status: int, body: bytes, headers: Sequence[tuple[str, bytes]]) -> Denied | Invalid:
    """With a status that is none, 403; without headers of framing."""
    for name, value in headers:
        problem = "" if name == "host" else what_is_wrong(Change(name, value))
        if problem:
            return Invalid(problem)
    kept = tuple((n.encode("latin-1"), v) for n, v in headers if n not in FRAMING and n != "host")
    return Denied(status if 200 <= status <= 599 else 403, body, kept)


def changed_query(query: str, allowed: Allowed) -> str:
    """The query with its parameters set and removed, as written: nothing is decoded."""
    found: list[tuple[str, str, str]] = [piece.partition("=") for piece in query.split("&")] if query else []
    for name, value in allowed.query_set:
        at = next((i for i, piece in enumerate(found) if piece[0] == name), len(found))
        found = [piece for piece in found if piece[0] != name]
        found.insert(at, (name, "=", value))
    gone = set(allowed.query_remove)
    return "&".join("".join(piece) for piece in found if piece[0] not in gone)


def refusal(verdict: Denied | Failed | Invalid, authorizer: Authorizer) -> Refusal:
    """What the caller gets. Of an authorizer that fails it is for the caller of this to ask for ``fail_open``."""
    if isinstance(verdict, Denied):
        return Refusal(verdict.status, verdict.body, None, FLAG, DENIED, verdict.headers)
    if isinstance(verdict, Invalid):
        return Refusal(500, "", None, FLAG, INVALID)
    instead = verdict.instead
    if instead is None:
        return Refusal(authorizer.status_on_error, "", None, FLAG, ERROR)
    return Refusal(instead.status, instead.body, None, FLAG, ERROR, instead.headers)
