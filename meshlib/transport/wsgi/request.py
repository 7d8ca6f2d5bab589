"""The request that a WSGI environ tells of.

**The path** is the request line's where the server keeps it: ``RAW_URI`` (gunicorn, werkzeug), ``REQUEST_URI``
(waitress, uWSGI, mod_wsgi, cheroot). Of other servers (wsgiref) it is ``PATH_INFO``, which they have decoded, quoted
again: ``/a%2Fb`` came, and ``/a/b`` is all that anybody knows, the application too. Where what the application is
given is not what the client's path decodes to (waitress makes ``//a`` into ``/a``; a middleware rewrites), policies
are judged at both.

**Header names** are CGI's: ``X-Role`` and ``X_Role`` are both ``HTTP_X_ROLE``. gunicorn since 22, waitress, werkzeug
and mod_wsgi keep names with ``_`` out; of other servers nobody can tell which of the two came. So a name that may
stand for another one counts against the caller: ``header_values`` has a line more, an empty one, which no ALLOW is
satisfied with.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, overload
from urllib.parse import quote

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, introduce
from meshlib.policy.path_spellings import decode
from meshlib.policy.regex import wire
from meshlib.transport.protocol.request_target import TWO_LENGTHS, Target, read_target
from meshlib.transport.wsgi.body import Body
from meshlib.transport.wsgi.connection import (
    PROXIED,
    PROXY_FIX,
    SOCKET,
    is_tls,
    local_facts,
    local_ip_of,
    local_port_of,
    peer_address,
    peer_of,
    plain_address,
    sni_of,
)

if TYPE_CHECKING:
    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.identity.peers import Peers
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.wsgi.connection import Peer
    from meshlib.transport.wsgi.contracts import Environ

SAFE = "/!$&'()*+,;=:@-._~"
"""Beside letters and digits: what stands for itself in a path."""
UNDERSCORE_IS_KEPT_OUT = re.compile(
    r"gunicorn(?:/(?:2[2-9]|[3-9]\d|\d{3,})(?:\.|$)|$)|waitress|Werkzeug/|Apache|meshlib$"
)
"""SERVER_SOFTWARE of servers that let no header name with ``_`` in."""


Keys: TypeAlias = Mapping[str, str | None]
"""By the name of a header in lower case: its key in an environ, None when it has several."""
Take: TypeAlias = "Callable[[Environ], Values | None]"
MOST_ENVIRONS = 1024
LONGEST_ENVIRON = 1024
"""Characters of the keys of an environ that are remembered: strangers choose the names of headers."""
_keys: dict[tuple[str, ...], Keys] = {}
"""Of environs with these keys."""
_BESIDE = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def _keys_of(keys: tuple[str, ...]) -> Keys:
    """Where the headers are in an environ with these keys."""
    found: dict[str, str | None] = {}
    for key in keys:
        name = key[5:].replace("_", "-").lower() if key[:5] == "HTTP_" else _BESIDE.get(key)
        if name is not None:
            found[name] = None if name in found else key
    if sum(map(len, keys)) <= LONGEST_ENVIRON:
        if len(_keys) >= MOST_ENVIRONS:
            _keys.clear()
        _keys[keys] = found
    return found


def several(environ: Environ, wanted: WantedHeaders, at: Keys | None = None) -> Values | None:
    """The values of several headers of an environ; None: more than one key may be one of them."""
    keys = tuple(environ)
    try:
        take = wanted.takes_of_environs[keys]
    except KeyError:
        take = _learn_taking(keys, wanted)
    try:
        found = take(environ)
    except (AttributeError, UnicodeEncodeError):  # what is no text, or not in ASCII
        found = None
    return found or _each(environ, wanted, _keys.get(keys) or _keys_of(keys) if at is None else at)


def _learn_taking(keys: tuple[str, ...], wanted: WantedHeaders) -> Take:
    at = _keys.get(keys) or _keys_of(keys)
    take = _taking(tuple(at.get(name, "") for name in wanted.names))
    if sum(map(len, keys)) <= LONGEST_ENVIRON:
        if len(wanted.takes_of_environs) >= MOST_ENVIRONS:
            wanted.takes_of_environs.clear()
        wanted.takes_of_environs[keys] = take
    return take


@functools.lru_cache(256)
def _taking(places: tuple[str | None, ...]) -> Take:
    """What takes the values at these keys ("": of none) where all of them are in ASCII, and raises where they are not; of
    headers that more than one key may be it gives None. A function of its own, as ``_each`` takes three times as long."""
    if any(key is None or key in _BESIDE for key in places):
        return lambda _environ: None
    there = sum(1 << n for n, key in enumerate(places) if key)
    # keys are defaults: names of the function's own take less time than a global's items, and they are no text of it
    names = "".join([f", k{n}=keys[{n}]" for n in range(len(places))])
    shown = "".join(f'environ[k{n}].encode("ascii"), ' if key else 'b"", ' for n, key in enumerate(places))
    made: Take = eval(f"lambda environ{names}: ({there}, {shown})", {"keys": places})
    return made


def _each(environ: Environ, wanted: WantedHeaders, at: Keys) -> Values | None:
    found: list[str | None] = []
    for name in wanted.names:
        key = at.get(name, "")
        if not key:
            if key is None:
                return None
            found.append(None)
            continue
        value = environ[key]
        if type(value) is not str or key in _BESIDE:
            return None
        found.append(value if value.isascii() else wire(value))
    return wanted.of_texts(found)


class EnvironHeaders(Sequence[tuple[str, str]]):
    """The headers in an environ, as pairs; made when somebody looks at more than one. As they were when somebody looked first:
    those around the application may change them."""

    __slots__ = ("_at", "_environ", "_pairs")

    def __init__(self, environ: Environ) -> None:
        self._environ = environ
        self._pairs: list[tuple[str, str]] | None = None
        self._at: Keys | None = None

    def one(self, name: str) -> str | Literal[False] | None:
        """The only header of this name, which is in lower case; None: there is none; False: look at all of them."""
        at = self._at
        if at is None:
            if self._pairs is not None:
                return False
            environ = self._environ = dict(self._environ)
            keys = tuple(environ)
            at = self._at = _keys.get(keys) or _keys_of(keys)
        key = at.get(name, "")
        if not key:
            return None if key == "" else False
        value = self._environ[key]
        if type(value) is not str:
            return False
        return value if value or key not in _BESIDE else None

    def several(self, wanted: WantedHeaders) -> Values | None:
        """The values of several; None: look at all headers. The environ is left as it is: nothing is read of it later."""
        return None if self._pairs is not None else several(self._environ, wanted, self._at)

    def _made(self) -> list[tuple[str, str]]:
        pairs = self._pairs
        if pairs is None:
            environ = self._environ
            pairs = self._pairs = [
                (key[5:].replace("_", "-").lower(), value)
                for key, value in environ.items()
                if key[:5] == "HTTP_" and type(value) is str
            ]
            for key, name in _BESIDE.items():
                value = environ.get(key)
                if value:  # CGI says "" for none
                    pairs.append((name, value))
        return pairs

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        return self._made()[index]

    def __len__(self) -> int:
        return len(self._made())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._made())


class WsgiRequest(InboundRequest):
    """``folds``: whether its server may have made ``-`` of a ``_`` in header names. ``malformed``: why it is refused
    whatever the policies say, or None.

    What few requests are judged by is read out of the environ when somebody asks, and kept: ``request_of`` leaves those
    slots empty (it makes one in a third of the time that ``__init__`` takes: the WSGI row of the benchmarks)."""

    __slots__ = ("_environ", "folds", "looked_at", "malformed")

    looked_at: bool
    """Whether somebody has looked at a header."""
    folds: bool
    malformed: Refusal | None
    _environ: Environ

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            late = _LATE.get(name)
            if late is None:
                raise AttributeError(f"a request has no {name!r}")
            value = late(self)
            setattr(self, name, value)
            return value

    def read(self) -> None:
        """Read now what would be read later: the environ is about to change."""
        for name in _LATE:
            getattr(self, name)
        len(self._raw)
        self._environ = dict(self._environ)

    def header(self, name: str) -> str | None:
        """As ``InboundRequest``'s; ``x_role`` finds what came as ``x-role``, or was made into it."""
        if "_" in name:
            name = name.replace("_", "-")
        raw = self._raw
        if self._values is None and type(raw) is EnvironHeaders:
            value = raw.one(name)
            if value is not False:
                return value if value is None or value.isascii() else wire(value)
        return super().header(name)

    def values_of(self, wanted: WantedHeaders) -> Values:
        """As ``InboundRequest``'s."""
        found = None
        if self._values is None:
            if not self.looked_at:
                found = several(self._environ, wanted)
            elif type(self._raw) is EnvironHeaders:
                found = self._raw.several(wanted)
        return super().values_of(wanted) if found is None else found

    def facts(self) -> tuple[Hashable, str, str]:
        """As ``InboundRequest``'s: by what the environ says, without reading it and keeping it."""
        environ = self._environ
        if STAND_IN in environ or PROXY_FIX in environ or PROXIED in environ:
            return super().facts()
        sock = environ.get(SOCKET)
        where = local_facts(sock) if sock is not None else environ.get("SERVER_NAME")
        of_all = environ.get("SERVER_PROTOCOL"), self.principal, where, self.port
        peer = plain_address(environ)
        return of_all, peer_address(environ) if peer is None else peer, self.authority

    def header_values(self, name: str) -> list[str] | None:
        """As ``InboundRequest``'s; one of a name that may not be the one that came has an empty value more."""
        if "_" in name:
            name = name.replace("_", "-")
        elif not self.folds or "-" not in name:
            return super().header_values(name)
        values = self._read().get(name)
        return None if values is None else [*values, ""]

    def put(self, name: str, value: bytes) -> None:
        """As ``InboundRequest``'s."""
        super().put(name.replace("_", "-"), value)

    def add(self, name: str, value: bytes) -> None:
        """As ``InboundRequest``'s."""
        super().add(name.replace("_", "-"), value)

    def take_away(self, name: str) -> None:
        """As ``InboundRequest``'s; all that its application could read as a header of this name."""
        super().take_away(name.replace("_", "-"))

    def shadow(self) -> Self:
        """As ``InboundRequest``'s."""
        copy = super().shadow()
        copy.folds, copy.malformed = self.folds, self.malformed
        return copy

    @property
    def remote_ip(self) -> str:
        """As ``InboundRequest``'s; "" when it may be ``X_Forwarded_For`` that says so, or when nobody knows whether its last
        line was empty (which is overlooked) or its last item (which is not an address)."""
        forwarded = self.header("x-forwarded-for")
        if forwarded is not None and (self.folds or forwarded.rstrip(" \t").endswith(",")):
            return ""
        return super().remote_ip


def other_path(sent: str, environ: Environ, shown: str) -> str | None:
    """The whole path of what an application is shown as ``shown`` (below its SCRIPT_NAME), None when that is ``sent``
    (decoded). A prefix that a proxy has taken away is the application's name for itself, and no other path."""
    if shown == sent:
        return None
    whole = (environ.get("SCRIPT_NAME") or "") + shown or "/"
    return None if whole == sent else whole


def _told(environ: Environ) -> Mapping[str, object]:
    """What the server has told, before werkzeug's ``ProxyFix`` wrote over it."""
    found: Mapping[str, object] = environ.get(PROXY_FIX, environ)
    return found


def _is_secure(request: WsgiRequest) -> bool:
    sock = request._environ.get(SOCKET)
    if sock is not None:
        return is_tls(sock)
    return _told(request._environ).get("wsgi.url_scheme") == "https"


@functools.lru_cache(64)
def _folds(software: str, keeps_target: bool) -> bool:
    if software:
        return UNDERSCORE_IS_KEPT_OUT.match(software) is None
    return not keeps_target  # werkzeug's test client, which names no server, keeps it


def _headers_of(request: WsgiRequest) -> EnvironHeaders:
    request.looked_at = True
    return EnvironHeaders(request._environ)


_LATE: Mapping[str, Callable[[WsgiRequest], object]] = {
    "_raw": _headers_of,
    "_sent_headers": lambda _: None,
    "_source_ip": lambda _: None,
    "_values": lambda _: None,
    "asked": lambda _: (),
    "body": lambda _: None,
    "body_source": lambda request: Body(request._environ),
    "claims": lambda _: None,
    "counted": lambda _: False,
    "deadline": lambda _: None,
    "folds": lambda request: _folds(request._environ.get("SERVER_SOFTWARE", ""), "RAW_URI" in request._environ),
    "host_known": lambda request: bool(request.authority),
    "http2": lambda request: request.version is not None and request.version[:6] == "HTTP/2",
    "local_ip": lambda request: local_ip_of(request._environ),
    "looked_at": lambda _: True,
    "peer": lambda request: peer_address(request._environ),
    "peer_id": lambda _: None,
    "peer_metadata": lambda _: None,
    "port": lambda request: local_port_of(request._environ),
    "request_principal": lambda _: "",
    "routed": lambda _: None,
    "scheme": lambda request: "https" if request.secure else "http",
    "secure": _is_secure,
    "sni": lambda request: sni_of(request._environ.get(SOCKET)) if request.secure else "",
    "target": lambda request: request.full_path.encode("latin-1", "replace"),
    "version": lambda request: request._environ.get("SERVER_PROTOCOL"),
}


MAX_CLEAR = 1024
LONGEST_CLEAR = 256
_clear: dict[tuple[str, str, str | None, str], tuple[str, str]] = {}
"""Path and authority of what was clear before: by method, target without a query, Host and the path that the application is
shown. Bounded, and short ones only: strangers write them."""


def _read_target(request: WsgiRequest, environ: Environ, method: str, sent: str, host: str | None, shown: str) -> None:
    found = read_target(method, sent, host, host_needed=environ.get("SERVER_PROTOCOL", "HTTP/1.0") != "HTTP/1.0")
    if not isinstance(found, Target):
        request.malformed = found
        request.path, request.query, request.authority = "/", "", ""
        return
    path, request.query, authority = found
    request.path = path
    request.authority = authority or ""
    decoded = decode(path) if "%" in path else path
    if decoded != shown:
        request.routed = other_path(decoded, environ, shown)
    elif host is not None and "?" not in sent and len(sent) <= LONGEST_CLEAR:
        if len(_clear) >= MAX_CLEAR:
            _clear.clear()
        _clear[method, sent, host, shown] = (path, host)


def request_of(environ: Environ, port: int | None, peers: Peers, peer: Peer | None = None) -> WsgiRequest:
    """The request; ``port``: the port that it came to, None: as the server says. ``peers`` judges whose certificate it is,
    where ``peer`` does not say it."""
    get = environ.get
    request = WsgiRequest.__new__(WsgiRequest)
    request._environ = environ
    request.protocol = "http"
    request.method = method = environ["REQUEST_METHOD"]
    request.for_application = request.malformed = request.routed = request._values = None
    request.looked_at = False
    request.for_caller = []
    request._for_caller = ()
    visible = get("PATH_INFO") or ""
    sent = get("RAW_URI") or get("REQUEST_URI") or _quoted(environ, visible)
    host = get(PROXY_FIX, environ).get("HTTP_HOST")
    seen = _clear.get((method, sent, host, visible))
    if seen is not None:
        request.path, request.authority = seen
        request.query = ""
    else:
        _read_target(request, environ, method, sent, host, visible)
    if "HTTP_TRANSFER_ENCODING" in environ and get("CONTENT_LENGTH"):
        request.malformed = TWO_LENGTHS
    if port is not None:
        request.port = port
    sock = get(SOCKET)
    if hasattr(sock, "getpeercert"):
        request.peer_id, request.mutual, request.secure = identity, _, _ = peer or peer_of(sock, peers)
        request.principal = "" if identity is None else identity.text
    else:
        request.mutual = False
        request.principal = ""
    if STAND_IN in environ:
        introduce(request, environ[STAND_IN])
    return request


def _quoted(environ: Environ, visible: str) -> str:
    """A target for what the server has left of it."""
    path = quote((environ.get("SCRIPT_NAME") or "") + visible, SAFE, "latin-1") or "/"
    query = environ.get("QUERY_STRING")
    return f"{path}?{query}" if query else path
