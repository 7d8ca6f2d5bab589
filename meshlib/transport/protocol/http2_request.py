"""The head of a request over HTTP/2 as HTTP/1.1 writes it: what policy reads and what an upstream of either version is sent.

nghttp2 has seen to what RFC 9113 says of one field alone: names are lower-case tokens, no value holds a line break, pseudo
headers are known, come first and once, no header is one of a connection, TE is ``trailers``, there is an authority. What could
still be read in two ways is refused here, as HTTP/1.1's reader does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from itertools import chain
from operator import itemgetter

from meshlib.policy.refusal import Refusal
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES, MAX_HEADERS
from meshlib.transport.protocol.http1_request import SPECIAL
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_headers import CONNECTION_SPECIFIC
from meshlib.transport.protocol.request_target import KEPT, LONGEST_AUTHORITY, MAX_SEEN, is_authority, read_target
from meshlib.transport.protocol.shortcuts import PLAIN

BESIDE = 4
"""Bytes of a header line besides its name and value."""

_NOT_AS_IT_CAME = CONNECTION_SPECIFIC | {b"host", b"expect", b"cookie"}
_LENGTH_DIGITS = 18
_SCHEMES = (b"http", b"https")

KNOWN_PLANS = 256
"""How many lists of names are remembered at most."""

_PSEUDO = (b":method", b":path", b":scheme", b":authority")
_OF_THEIR_OWN = (b"CONNECT", b"QUERY")
"""Methods of which more is asked than a path and an authority."""
_CLEAR = bytes(range(0x21, 0x7F)).replace(b"#", b"")
"""Bytes of a target that ``read_target`` has no question about."""
_PLAIN = KEPT.replace(b"#", b"")
"""Those of them that a path keeps."""
_AS_KEPT = bytes(byte if byte in _PLAIN else _PLAIN[0] for byte in range(256))
"""Leaves them as they are, and no others. To compare what comes of that costs a fifth of deleting them."""
SECRETS = frozenset((b"authorization:", b"proxy-authorization:", b"cookie:"))
"""Headers that HTTP/2 keeps out of its tables, or may."""
OF_PROXIES = frozenset((b"x-envoy-", b"x-forwarded-client-cert:", b"x-forwarded-proto:", b"x-request-id:"))
"""Headers that a proxy has to look at, or would add."""
_ROOM = 256
"""Bytes: more than pseudo headers have, but for the path and the method."""

_FITS = MAX_HEAD_BYTES - 2 * _ROOM

MOST_NAMES = 4096
"""Bytes of a head's names up to which its plan is kept: what strangers can have kept is bounded, and programs' heads have
some hundreds."""
_BETWEEN_NAMES = b"\0"
"""Is in none: one piece of bytes is compared and hashed in less time than a tuple of them."""

_name = itemgetter(0)
_VALUES = slice(1, None, 2)
_flat = chain.from_iterable
_line = b": ".join
_join_names = _BETWEEN_NAMES.join
_new = object.__new__
_GRPC = b"application/grpc"
_GRPC_LINE = b"content-type: " + _GRPC


class Plan:
    """What headers with certain names in a certain order have in common: ``pseudo`` takes the values of ``_PSEUDO`` of theirs,
    ``te``, ``length`` and ``content_type`` are where those of TE, Content-Length and Content-Type stand (-1: nowhere). None of
    these stands there twice."""

    # no NamedTuple, whose attributes take ten times as long
    __slots__ = (
        *("at", "besides", "between", "content_type", "envoy", "hides", "length", "names", "pseudo"),
        *("special", "special_of_grpc", "te", "usual", "values"),
    )

    def __init__(self, names: tuple[bytes, ...]) -> None:
        count = len(_PSEUDO)
        rest = names[count:]
        self.pseudo: Callable[[tuple[bytes, ...]], tuple[bytes, bytes, bytes, bytes]]
        self.pseudo = itemgetter(*map(names.index, _PSEUDO))
        self.te, self.length, self.content_type = (
            names.index(name) if name in rest else -1 for name in (b"te", b"content-length", b"content-type")
        )
        self.values = self.te >= 0 or self.length >= 0 or self.content_type >= 0
        """Whether there are any of the three."""
        self.special = frozenset(SPECIAL.findall(b"\r\nhost: \r\n" + b": \r\n".join((*rest, b""))))
        """What ``SPECIAL`` finds in lines with these names, whatever their values are."""
        self.special_of_grpc = self.special | {_GRPC_LINE}
        """The same where a Content-Type is one of gRPC."""
        self.hides = not SECRETS.isdisjoint(self.special)
        """Whether some are among ``SECRETS``."""
        self.envoy = b"x-envoy-" in self.special
        self.usual = self.special.isdisjoint(OF_PROXIES)
        """Whether none is among ``OF_PROXIES``."""
        self.between = [b"host: ", b"", *_flat((b"\r\n%b: " % name, b"") for name in rest), b"\r\n"]
        """The header lines in pieces, Host first: each second one is a value, and stands in ``_VALUES``. To be copied."""
        self.names = len(b"host") + sum(map(len, rest))
        """Bytes of names, Host's among them and those of ``_PSEUDO`` not."""
        self.besides = BESIDE * (len(rest) + 1)
        """Bytes of header lines besides names and values."""
        texts = [name.decode("latin-1") for name in rest]
        self.at = {text: -1 if texts.count(text) > 1 else count + n for n, text in enumerate(texts)}
        """Where the value of a header stands, -1: it is there more than once. Host's is that of ``:authority``."""
        self.at["host"] = names.index(b":authority")

    def lines(self, authority: bytes, values: tuple[bytes, ...]) -> bytes:
        """Header lines, of headers with these values."""
        pieces = self.between.copy()  # a third of what a join a header takes
        pieces[_VALUES] = (authority, *values[len(_PSEUDO) :])
        return b"".join(pieces)


class RequestHead:
    """``fields``: headers but for Host.
    ``length``: of the body in bytes, None: nothing says. ``expects_continue``: the client waits for 100 before it sends it.
    ``protocol``: of an extended CONNECT, else b"". ``refused``: why the request goes no further, None: it does."""

    __slots__ = (  # as ``Plan``
        *("authority", "came", "expects_continue", "fields", "grpc", "kept", "length", "method"),
        *("plan", "protocol", "refused", "scheme", "size", "special", "target"),
    )

    def __init__(
        self,
        target: bytes,
        fields: Head,
        method: bytes,
        authority: bytes,
        scheme: bytes,
        lines: bytes,
        length: int | None,
        expects_continue: bool,
        protocol: bytes,
        refused: Refusal | None,
        special: Collection[bytes],
    ) -> None:
        self.target = target
        self.fields = fields
        self.method = method
        self.authority = authority
        self.scheme = scheme
        self.came: tuple[bytes, ...] | bytes = lines
        """The values of all headers, if there is a ``plan``; else ``lines``."""
        self.plan: Plan | None = None
        self.length = length
        self.expects_continue = expects_continue
        self.protocol = protocol
        self.refused = refused
        self.special = special
        """What ``SPECIAL`` finds in ``lower``: a set, if there is a ``plan``."""
        self.grpc: bool | None = None
        """Whether it is a request of gRPC; None: to be seen from ``lower``."""
        self.kept = False
        """Whether ``target`` is one that no normalization of paths changes, but for its slashes; False: that is to be seen."""
        self.size = 0
        """Bytes of names and values of all headers, Host in place of ``:authority`` and no other names of pseudo ones; if there
        is a ``plan``."""

    @property
    def lines(self) -> bytes:
        """Header lines, each with its line end, Host first. Made for who asks: most requests need none."""
        came, plan = self.came, self.plan
        return came if plan is None else plan.lines(self.authority, came)  # type: ignore[return-value, arg-type]

    @property
    def lower(self) -> bytes:
        """The same in lower case, behind a line end. Likewise."""
        return b"\r\n" + self.lines.lower()


_newest: list[tuple[bytes, Plan | None]] = [(b"", None)]
"""The names of the last head, with ``_BETWEEN_NAMES`` between them, and their plan."""


@functools.lru_cache(KNOWN_PLANS)
def _plan(joined: bytes) -> Plan | None:
    """Of names with ``_BETWEEN_NAMES`` between them. None: values of other headers have a say, too, or these are not the four
    pseudo headers of nearly all requests."""
    names = tuple(joined.split(_BETWEEN_NAMES))
    count = len(_PSEUDO)
    first, rest = names[:count], names[count:]
    if (
        set(first) != set(_PSEUDO)
        or len(names) > MAX_HEADERS
        or rest.count(b"te") > 1
        or rest.count(b"content-length") > 1
        or rest.count(b"content-type") > 1
    ):
        return None
    if not _NOT_AS_IT_CAME.isdisjoint(rest) or any(name[:1] == b":" for name in rest):
        return None
    return Plan(names)


def read_head(headers: Head, tunnels: bool = False) -> RequestHead:
    """``tunnels``: CONNECT is taken. Raises nothing: what is wrong is ``refused``, with as much of the rest as can be told."""
    grpc: bool | None
    plan = None
    if headers and not PLAIN:
        names: tuple[bytes, ...]
        names, values = zip(*headers)  # noqa: B905  # half of what two maps take, and they are pairs: to ask for that takes long
        joined = _join_names(names)
        newest, plan = _newest[0]
        if joined != newest:
            if len(joined) > MOST_NAMES:
                plan = None
            else:
                plan = _plan(joined)
                _newest[0] = joined, plan
    if plan is not None:
        # a program's requests have the same few lists of names: no step of bytecode a header (row "proxy-grpc-inprocess")
        pseudo = plan.pseudo  # it is no method
        method, target, scheme, authority = pseudo(values)
        rest = headers[4:]  # as many as ``_PSEUDO`` has
        size = plan.names + len(b"".join(values))  # half of what a sum takes
        length, grpc, special = None, False, plan.special
        # a method that is longer than there is room for is one of a longer head
        fits = size + plan.besides <= _FITS and scheme in _SCHEMES
        if fits and plan.values:  # of which some have a say
            at, te, content_type = plan.length, plan.te, plan.content_type
            if at >= 0:
                digits = values[at]
                if digits.isdigit() and len(digits) <= _LENGTH_DIGITS:
                    length = int(digits)
                else:
                    fits = False
            if te >= 0 and values[te] != b"trailers":
                fits = False
            if content_type >= 0:
                value = values[content_type]
                if value == _GRPC:
                    grpc, special = True, plan.special_of_grpc
                elif value[: len(_GRPC)].lower() == _GRPC:
                    grpc, special = None, plan.special_of_grpc
        if fits:
            refused = None
            # once for all who ask: this fills a table
            kept = target.translate(_AS_KEPT) == target
            if (
                (not kept and target.translate(None, _CLEAR))
                or not target.startswith(b"/")
                or method in _OF_THEIR_OWN
                or (authority != _newest_authority[0] and not _names_another(authority))
            ):
                refused = _refused(method, {b":path": target}, authority, scheme, tunnels)
                kept &= target != b"*"
            # as RequestHead(...) does, without its function
            head: RequestHead = _new(RequestHead)
            head.target = target
            head.fields = rest
            head.method = method
            head.authority = authority
            head.scheme = scheme
            head.came = values
            head.plan = plan
            head.length = length
            head.expects_continue = False
            head.protocol = b""
            head.refused = refused
            head.special = special
            head.grpc = grpc
            head.kept = kept and target.find(b"/.") < 0  # not ``in``, which tries to take it for a number first
            head.size = size
            return head
    return _one_by_one(headers, tunnels)


def _one_by_one(headers: Head, tunnels: bool) -> RequestHead:
    """The same of any headers."""
    pseudo: dict[bytes, bytes] = {}
    fields = 0
    for name, value in headers:
        if name[:1] != b":":
            break
        pseudo[name] = value
        fields += 1
    rest = headers[fields:]
    method = pseudo.get(b":method", b"")
    scheme = pseudo.get(b":scheme", b"http").lower()
    authority = pseudo.get(b":authority", b"")
    names = list(map(_name, rest))
    refused = None
    if b"host" in names:
        host = rest[names.index(b"host")][1]  # nghttp2 lets no second one pass
        if not authority:
            authority = host
        elif host.lower() != authority.lower():
            refused = _bad("authority_and_host_differ")
    if len(headers) > MAX_HEADERS:  # pseudo headers are counted, as in Envoy
        refused = _too_large("http2.too_many_headers")
    elif BESIDE * len(headers) + sum(map(len, _flat(headers))) > MAX_HEAD_BYTES:
        refused = _too_large("http2.header_list_size_too_large")
    expects_continue = False
    if b"expect" in names:
        expects_continue = rest[names.index(b"expect")][1].lower() == b"100-continue"
        if not expects_continue or names.count(b"expect") > 1:
            refused = refused or Refusal(417, "Expectation Failed", flag="DPE", detail="unknown_expectation")
    length: int | None = None
    if b"content-length" in names:
        digits = rest[names.index(b"content-length")][1]
        if digits.isdigit() and len(digits) <= _LENGTH_DIGITS:
            length = int(digits)
        else:
            refused = refused or _bad("invalid_content_length")
    kept, lines, lower = _lines(authority, rest, names)
    return RequestHead(
        pseudo.get(b":path", b""),
        kept,
        method,
        authority,
        scheme,
        lines,
        length,
        expects_continue,
        pseudo.get(b":protocol", b""),
        refused or _refused(method, pseudo, authority, scheme, tunnels),
        SPECIAL.findall(lower),
    )


_newest_authority: list[bytes | None] = [None]
"""Of the last head whose authority was another one than before. It names one."""


def _names_another(authority: bytes) -> bool:
    """``_names_one``, for requests to come too."""
    if len(authority) > LONGEST_AUTHORITY or not _names_one(authority):
        return False
    _newest_authority[0] = authority
    return True


@functools.lru_cache(MAX_SEEN)
def _names_one(authority: bytes) -> bool:
    return is_authority(authority.decode("latin-1"))


def _refused(
    method: bytes, pseudo: dict[bytes, bytes], authority: bytes, scheme: bytes, tunnels: bool
) -> Refusal | None:
    if method == b"CONNECT":
        if not tunnels:
            return Refusal(405, "Method Not Allowed", flag="DPE", detail="connect_is_not_allowed")
        if b":path" not in pseudo:
            return None if is_authority(authority.decode("latin-1")) else _bad("invalid_host_header")
        method = b"GET"  # an extended one, whose path is that of a GET
    if scheme not in _SCHEMES:
        return _bad("invalid_scheme")
    if method == b"QUERY":
        return _bad("unknown_method")  # the only one that Envoy refuses
    read = read_target(
        method.decode("latin-1"), pseudo.get(b":path", b"").decode("latin-1"), authority.decode("latin-1")
    )
    return read if isinstance(read, Refusal) else None


def _lines(authority: bytes, headers: Head, names: list[bytes]) -> tuple[Head, bytes, bytes]:
    """Headers, and header lines with Host, with one line of cookies, as HTTP/1.1 has them."""
    # no step of bytecode a header but where one is not sent on as it came
    if b"te" in names and (b"te", b"trailers") not in headers:
        # nghttp2 takes any case of it, an upstream may not
        headers = [pair for pair in headers if pair[0] != b"te"]
    if not _NOT_AS_IT_CAME.isdisjoint(names):
        cookies = [value for name, value in headers if name == b"cookie"]
        headers = [pair for pair in headers if pair[0] not in _NOT_AS_IT_CAME]
        if cookies:
            headers.append((b"cookie", b"; ".join(cookies)))
    lines = b"\r\n".join([b"host: " + authority, *map(_line, headers), b""])
    return headers, lines, b"\r\n" + lines.lower()


def _bad(why: str) -> Refusal:
    return Refusal(400, "Bad Request", flag="DPE", detail=why)


def _too_large(why: str) -> Refusal:
    return Refusal(431, "Request Header Fields Too Large", flag="DPE", detail=why)
