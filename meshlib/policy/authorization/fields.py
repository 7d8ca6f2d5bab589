"""The fields of rules: from what a request is, to the clauses that it does not rule out (bit = clause).

Of each field it is known which clauses want some of its values, and which exclude some. Two ways of reading a value (is the
header ``a, b`` one value or two? is ``host.`` the host?) are one when they agree. Where they do not, it counts against the
caller: a clause that permits must be matched for certain, and one that forbids need only be matched maybe; the other way
round for what they exclude. What nobody knows (``unknown``) is neither certain nor excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from meshlib.policy.authorization.blocks import Blocks, UnknownValue
from meshlib.policy.authorization.headers import JOINED, LAST_LINE_ALONE, UNSEEN, HeaderLines, Lines
from meshlib.policy.authorization.hosts import Authorities, Hosts
from meshlib.policy.authorization.patterns import Entries, Index, Patterns, mapped
from meshlib.policy.authorization.peers import Namespaces, Principals, ServiceAccounts, TrustDomains
from meshlib.policy.authorization.tokens import Claims, Issued, RequestPrincipals, claim_names, claim_reader, issued
from meshlib.policy.regex import wire

if TYPE_CHECKING:
    from meshlib.policy.authorization.rules import Condition
    from meshlib.policy.inbound_view import InboundView

K = TypeVar("K", bound=Hashable)

MOST_REMEMBERED = 4096
MOST_BYTES = 4_000_000
"""Of remembered values and their bits, a field."""
LONGEST_REMEMBERED = 512
"""Characters of a value: what strangers send that is longer is found anew each time."""

Asked: TypeAlias = Sequence[tuple[int, "Condition"]]
"""Conditions on one field, with the bit of their clause."""


class BadCondition(ValueError):
    """No field has this key."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[K]):
    """One kind of field. ``attribute`` of the request is its value, or ``read`` finds it, or ``claims`` finds
    it in the claims of its token, and nowhere else; ``index`` makes the look-up of some
    values: for certain for the bits of its second argument, maybe for all others. Falsy values are unknown (``unknown``), or
    say that the peer has none (``of_the_peer``), or are values like others."""

    index: Callable[[Entries, int], Index[K]]
    attribute: str = ""
    read: Callable[[InboundView], K] | None = None
    claims: Callable[[Mapping[str, object] | None], K] | None = None
    unknown: bool = False
    of_the_peer: bool = False


@dataclass(frozen=True, slots=True)
class Layer(Generic[K]):
    """``free``: the clauses that want nothing of this field. ``find`` gives those that have what they want, and above
    them, from bit ``shift`` on, those that exclude it (0: none does)."""

    free: int
    find: Index[K]
    shift: int


class Field(Generic[K]):
    """The clauses that one value of a request does not rule out, remembered within bounds. ``every`` has all clauses of the
    table, ``permits`` those that let in."""

    __slots__ = ("_every", "_layers", "_most", "attribute", "claims", "memo", "none", "read", "touched", "unknown")

    def __init__(self, kind: Kind[K], asked: Asked, every: int, permits: int) -> None:
        touched = 0
        wanting = 0
        for bit, condition in asked:
            touched |= bit
            if condition.values:
                wanting |= bit
        self.attribute = kind.attribute
        self.read = kind.read
        self.claims = kind.claims
        self._every = every
        self._layers = layers(asked, every, permits, kind.index)
        self._most = most_remembered(every)
        self.touched = touched
        """The clauses that have conditions on it."""
        self.unknown = every & ~(touched & permits)
        """The clauses that stay when nobody knows the value."""
        self.none: int | None = None
        """Those that stay when there is no value, None where that is a value like others."""
        if kind.unknown:
            self.none = self.unknown
        elif kind.of_the_peer:
            self.none = every & ~((touched & permits) | wanting)
        self.memo: dict[K, int] = {}

    def find(self, value: K) -> int:
        """The clauses that stay."""
        found = self.memo.get(value)
        return self.learn(value) if found is None else found

    def learn(self, value: K) -> int:
        """The same for a value that is not remembered."""
        found = self._find(value)
        if (len(value) if isinstance(value, str) else size_of(value)) <= LONGEST_REMEMBERED:
            if len(self.memo) >= self._most:
                self.memo.clear()
            self.memo[value] = found
        return found

    def _find(self, value: K) -> int:
        if self.none is not None and not value:
            return self.none
        layers = self._layers
        try:
            if len(layers) == 1:
                layer = layers[0]
                has = layer.find(value)
                found = layer.free | has
                return (found & ~(has >> layer.shift) if layer.shift else found) & self._every
            found = self._every
            for layer in layers:
                has = layer.find(value)
                found &= layer.free | has
                if layer.shift:
                    found &= ~(has >> layer.shift)
        except UnknownValue:
            return self.unknown
        return found


def most_remembered(every: int) -> int:
    """How many values a field may remember, as many bits as clauses have."""
    return max(16, min(MOST_REMEMBERED, MOST_BYTES // (every.bit_length() // 8 + 256)))


def size_of(value: object) -> int:
    """Roughly, in characters."""
    if isinstance(value, str):
        return len(value)
    return sum([size_of(part) + 1 for part in value]) if isinstance(value, tuple) else 1


def layers(asked: Asked, every: int, permits: int, index: Callable[[Entries, int], Index[K]]) -> tuple[Layer[K], ...]:
    """A layer for what each clause wants first, one for what it wants beside that, and so on; what is excluded is one."""
    wanted: list[list[tuple[int, Sequence[str]]]] = [[]]
    times: dict[int, int] = {}
    excluded: list[tuple[int, Sequence[str]]] = []
    for bit, condition in asked:
        if condition.not_values:
            excluded.append((bit, condition.not_values))
        if condition.values:
            at = times.get(bit, 0)
            times[bit] = at + 1
            if at == len(wanted):
                wanted.append([])
            wanted[at].append((bit, condition.values))
    made = []
    above = every.bit_length()
    for entries in wanted:
        free = every
        for bit, _ in entries:
            free &= ~bit
        both = [*entries, *((bit << above, values) for bit, values in excluded)]
        # what excludes must be certain where what is wanted may be a guess, and the other way round
        made.append(Layer(free, index(both, permits | (every & ~permits) << above), above if excluded else 0))
        excluded = []
    return tuple(made)


def _nothing(_value: object) -> int:
    return 0


# -- the kinds --------------------------------------------------------------------------------------------------------


def _texts(entries: Entries, certain: int) -> Index[str]:
    return Patterns(mapped(entries, wire), certain)


def _names(entries: Entries, certain: int) -> Index[str]:
    surely, maybe = Patterns(entries, certain), Patterns(mapped(entries, str.lower))
    return lambda name: (surely(name.lower()) & certain) | (maybe(name.lower()) & ~certain)


def _ports(entries: Entries, certain: int) -> Index[int]:
    ports: dict[int, int] = {}
    for bits, values in entries:
        for value in values:
            ports[int(value)] = ports.get(int(value), 0) | bits
    return lambda port: ports.get(port, 0)


def _unknown(entries: Entries, certain: int) -> Index[str]:
    return _nothing


def _authority(request: InboundView) -> str:
    return request.authority if request.host_known else ""


def _sni(request: InboundView) -> str | None:
    """None: the connection is TLS, and its server does not tell the name (or there was none)."""
    return request.sni or (None if request.secure else "")


def _sni_kind(entries: Entries, certain: int) -> Index[str | None]:
    names = _names(entries, certain)

    def find(name: str | None) -> int:
        if name is None:
            raise UnknownValue
        return names(name)

    return find


_PLAIN: Mapping[str, Kind[str] | Kind[int] | Kind[str | None] | Kind[Issued]] = {
    "methods": Kind(_texts, "method"),
    "hosts": Kind(Hosts, read=_authority, unknown=True),
    "authority": Kind(Authorities, read=_authority, unknown=True),
    "destination.port": Kind(_ports, "port", unknown=True),
    "destination.ip": Kind(Blocks, "local_ip", unknown=True),
    "connection.sni": Kind(_sni_kind, read=_sni),
    "source.ip": Kind(Blocks, "source_ip", unknown=True),
    "remote.ip": Kind(Blocks, "remote_ip", unknown=True),
    "source.principal": Kind(Principals, "principal", of_the_peer=True),
    "source.namespace": Kind(Namespaces, "principal", of_the_peer=True),
    "source.serviceAccount": Kind(ServiceAccounts, "principal", of_the_peer=True),
    "source.trustDomain": Kind(TrustDomains, "principal", of_the_peer=True),
    "request.auth.principal": Kind(RequestPrincipals, claims=issued),
}
_CLAIMS = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}
_HEADERS, _CLAIM, _ENVOY = "request.headers", "request.auth.claims", "experimental.envoy.filters."
_PSEUDO = {":authority": "authority", "host": "authority", ":method": "methods"}
PATH_HEADER = "request.headers[:path]"


def kind_of(key: str) -> Kind[str] | Kind[int] | Kind[str | None] | Kind[Issued] | Kind[tuple[str, ...]] | Kind[Lines]:
    """What the field with this key is. Raises ``BadCondition``. (``paths`` and the header ``:path`` are ``paths.py``'s.)"""
    found = _PLAIN.get(key)
    if found is not None and key != "authority":
        return found
    if key in _CLAIMS:
        return _claim((_CLAIMS[key],))
    if key.startswith(f"{_CLAIM}[") and key.endswith("]"):
        return _claim(claim_names(key[len(_CLAIM) :]))
    if key.startswith(f"{_HEADERS}[") and key.endswith("]"):
        return _header(key[len(_HEADERS) + 1 : -1].lower())
    if key.startswith(_ENVOY):
        return Kind(_unknown, read=lambda request: "", unknown=True)
    raise BadCondition(f"{key!r} is not a valid condition")


_OF_HEAD_AND_PEER = frozenset(
    (
        *("methods", "paths", "hosts", "authority", "destination.port"),
        *("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"),
        *("request.auth.principal", *_CLAIMS),
    )
)


def is_of_head_and_peer(key: str) -> bool:
    """Whether nothing counts for this field but the head of a request (its target, headers and the token among them), the
    port and who its peer is: so requests that have these in common are alike. Not so addresses, the SNI or the scheme."""
    if key.startswith((_CLAIM, _ENVOY)):
        return True
    if key.startswith(_HEADERS):
        return key[len(_HEADERS) :].lower() != "[:scheme]"
    return key in _OF_HEAD_AND_PEER


def _claim(names: tuple[str, ...]) -> Kind[tuple[str, ...]]:
    return Kind(Claims, claims=claim_reader(names))


def _header(name: str) -> Kind[str] | Kind[int] | Kind[str | None] | Kind[Issued] | Kind[Lines]:
    if name in _PSEUDO:
        return _PLAIN[_PSEUDO[name]]
    if name == ":scheme":
        return Kind(_texts, "scheme")

    joined, last_alone = name in JOINED, name in LAST_LINE_ALONE

    def read(request: InboundView) -> Lines:
        value = request.header(name)
        if value is None:
            return ()
        if last_alone and not request.host_known and request.protocol == "grpc":
            return UNSEEN
        several = request.header_values(name)
        if several is None:
            return value
        return ",".join(several) if joined else tuple(several)

    return Kind(HeaderLines, read=read)


def unknown_to(key: str, *, host: bool, port: bool) -> bool:
    """Whether a world that tells hosts and ports, or does not, can never know the field."""
    if key.startswith(_ENVOY):
        return True
    if key == "hosts" or key.lower() in (f"{_HEADERS}[:authority]", f"{_HEADERS}[host]"):
        return not host
    return key == "destination.port" and not port
