"""What is compiled for a workload's server, at work: the checks of each port, with the state that they keep from one
configuration to the next."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from meshlib.compiler.inbound import NOTHING, Inbound, InboundPorts
from meshlib.engine.authorization_check import AuthorizationCheck, AuthorizationCounts
from meshlib.engine.authorizers import Authorizers
from meshlib.engine.custom import CustomCheck, nobody
from meshlib.engine.inbound import closed, goes_straight
from meshlib.engine.peer_check import PeerCheck, PeerCounts
from meshlib.engine.peer_metadata_check import PeerMetadataCheck
from meshlib.engine.protection_state import UNPROTECTED, BoundProtection, ProtectionState, no_shared_counter
from meshlib.engine.token_state import TokenState
from meshlib.policy.mtls_mode import MtlsMode

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.engine.check import Check
    from meshlib.engine.custom import Asker
    from meshlib.engine.inbound_admission import Admission, Report
    from meshlib.engine.inbound_limits import RateLimits
    from meshlib.engine.protection_state import SharedCounterOf


MOST_NOTING = 10_000


class Noting(Protocol):
    """A series to which calls are noted, one like the other."""

    def note(self, milliseconds: float, request_bytes: int, response_bytes: int, /) -> None: ...
    def exemplify(self, milliseconds: float, trace_id: int | bytes, span_id: int | bytes, /) -> None: ...


class BoundInbound:
    """The inbound settings of a port, who is let in while there is much to do (``admission``, asked before all others), and
    their checks in the order in which they are asked. ``route``: limits that count by the route, which are among the checks
    but not among ``unrouted``."""

    __slots__ = ("_noting", "admission", "checks", "of_nobody", "route", "settings", "tells", "unrouted")

    def __init__(
        self,
        settings: Inbound,
        checks: tuple[Check, ...],
        admission: Admission | None = None,
        tells: bool = False,
        route: RateLimits | None = None,
        unrouted: tuple[Check, ...] = (),
    ) -> None:
        self.route = route
        self.unrouted = unrouted
        self.tells = tells
        """Whether calls note when their response began, for those who tell of it (an access log)."""
        self.settings = settings
        self.checks = checks
        self.admission = admission
        self.of_nobody: dict[int, Noting] = {}
        """``noting`` of peers that have shown nothing."""
        self._noting: dict[tuple[str, bool], dict[int, Noting]] = {("", False): self.of_nobody}

    def noting(self, principal: str, mutual: bool) -> dict[int, Noting]:
        """Where calls of HTTP that have no flags are noted, by status: those of a peer with this ``principal`` ("": it has
        none), that has shown a certificate or not. Who comes to know a series puts it here."""
        found = self._noting.get((principal, mutual))
        if found is None:
            if len(self._noting) >= MOST_NOTING:  # there may be any number of principals
                self._noting = {("", False): self.of_nobody}
            found = self._noting[principal, mutual] = {}
        return found

    @property
    def straight(self) -> bool:
        """Whether there is nothing to ask (``goes_straight``)."""
        return goes_straight(self.settings, self.checks, self.admission)


class BoundPorts:
    """Those of every port, of one configuration. ``unchecked``: whether there is a port whose requests nothing checks."""

    __slots__ = ("default", "ports", "unchecked")

    def __init__(self, default: BoundInbound, ports: Mapping[int, BoundInbound] | None = None) -> None:
        self.default = default
        self.ports: Mapping[int, BoundInbound] = ports or {}
        self.unchecked = not all(bound.checks for bound in (default, *self.ports.values()))

    def of(self, port: int) -> BoundInbound:
        """The settings of a port, 0: the server does not tell which."""
        return self.ports.get(port, self.default)


SHUT = BoundPorts(BoundInbound(NOTHING, (closed,)))
"""Where there is no mesh, or none any more, that could decide: nothing comes in."""


class InboundState:
    """Of one mesh, for as long as it lives. ``ask`` makes the calls of checks, ``clock`` is the mesh's, ``own`` tells the
    SPIFFE ID that it shows. ``authorizers``: what became of what they were asked."""

    __slots__ = ("ask", "authorization", "authorizers", "clock", "own", "peers", "protection", "tokens")

    def __init__(
        self,
        clock: Clock,
        ask: Asker,
        shared: SharedCounterOf = no_shared_counter,
        report: Report | None = None,
        rng: random.Random | None = None,
        own: Callable[[], str] = nobody,
    ) -> None:
        self.clock = clock
        self.ask = ask
        self.own = own
        self.authorizers = Authorizers()
        self.protection = ProtectionState(clock, ask, shared, report, rng)
        self.tokens = TokenState(clock, ask)
        self.authorization = AuthorizationCounts()
        self.peers = PeerCounts()

    def take(self, ports: InboundPorts, tells: bool = False) -> BoundPorts:
        """The checks of a new configuration; ``tells``: as ``BoundInbound`` has it. What is known from the one before stays
        known; requests that are being served keep the checks that they began with."""
        numbers = list(ports.ports)
        settings = [ports.default, *ports.ports.values()]
        self.tokens.take(settings)
        protections = self.protection.take(settings)
        default, *others = [self._bind(*each, tells) for each in zip(settings, protections, strict=True)]
        return BoundPorts(default, dict(zip(numbers, others, strict=True)))

    def after_fork(self) -> None:
        """In a forked child: locks may be held, and flights under way, by threads that do not exist here."""
        self.authorization.after_fork()
        self.peers.after_fork()
        self.protection.after_fork()
        self.tokens.after_fork()

    def _bind(self, inbound: Inbound, protection: BoundProtection = UNPROTECTED, tells: bool = False) -> BoundInbound:
        checks = self._checks_in_order(inbound, protection)
        route = protection.route
        unrouted = () if route is None else (*checks, *protection.unrouted)
        return BoundInbound(inbound, (*checks, *protection.last), protection.admission, tells, route, unrouted)

    def _checks_in_order(self, inbound: Inbound, protection: BoundProtection) -> tuple[Check, ...]:
        """Istio's order of filters: STRICT, which is the connection's, comes first, then what needs no identity (shedding,
        sizes), CUSTOM, tokens, AUDIT with DENY and ALLOW; after these comes what is limited by who asks."""
        strict = (PeerCheck(inbound.mtls_policy, self.peers),) if inbound.mtls is MtlsMode.STRICT else ()
        custom = [CustomCheck(each, self.ask, self.clock, self.authorizers, self.own) for each in inbound.custom]
        policies = inbound.authorization
        judged = () if policies is None else (AuthorizationCheck(policies, self.authorization),)
        # before whatever reads, keeps or passes on headers
        own = inbound.mesh.peer_metadata
        exchange = () if own is None else (PeerMetadataCheck(own),)
        return (
            *strict,
            *exchange,
            *protection.first,
            *custom,
            *inbound.checks,
            *self.tokens.checks(inbound),
            *judged,
        )
