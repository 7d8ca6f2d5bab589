"""What an Envoy is sent over ADS, and what becomes of what it says to that: pure, on an injected clock.

A new configuration goes out in steps, so that no route ever leads to a cluster that is not there yet or no more: first clusters
and endpoints, new ones beside old ones; then listeners and routes; then clusters without those that are gone. A step is over
when Envoy has taken it (or after ``PATIENCE``). What Envoy refuses takes the whole of it back: all goes to the configuration
that was taken last, as ``Mesh.apply`` is all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from meshlib.envoy.messages import CLUSTER, ENDPOINTS, KINDS, LISTENER, ROUTES, SECRET

Packed = Mapping[str, Mapping[str, bytes]]
"""Messages by name, by kind."""
ORDER = (SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES)
ALL_NAMES = frozenset((CLUSTER, LISTENER))
"""Kinds of which Envoy takes all, without naming them."""
PATIENCE = 10.0
"""Seconds that a step may take."""


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse."""

    kind: str
    version: str
    nonce: str
    resources: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Envoy does not take resources of a ``kind``; ``message`` is its own. ``kept``: whether there is an earlier configuration
    that it goes on with."""

    kind: str
    message: str
    kept: bool

    @property
    def text(self) -> str:
        """For people."""
        what = f"Envoy refuses its configuration ({KINDS.get(self.kind, self.kind)}): {self.message}"
        return f"{what}; the last good configuration stays" if self.kept else what


@dataclass(slots=True, eq=False)
class Stream:
    """An Envoy that is connected. By kind: the names that it wants, the nonce of the latest response, and the versions that it
    was sent and has taken."""

    wanted: dict[str, frozenset[str]] = field(default_factory=dict)
    nonces: dict[str, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)


class AdsState:
    """``send`` hands a response to a stream; ``rejected`` and ``taken`` tell what became of the configurations that were
    offered."""

    def __init__(
        self,
        clock: Callable[[], float],
        send: Callable[[Stream, Response], None],
        rejected: Callable[[Rejection], None],
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._send = send
        self._rejected = rejected
        self._taken = taken
        self._published: dict[str, dict[str, bytes]] = {kind: {} for kind in ORDER}
        self._versions = dict.fromkeys(ORDER, 0)
        self._target: Packed = {}
        self._good: Packed | None = None
        self._steps: list[dict[str, dict[str, bytes]]] = []
        self._waits_for: dict[str, int] = {}
        self._until = 0.0
        self._streams: list[Stream] = []
        self._nonce = 0

    @property
    def connected(self) -> bool:
        """Whether an Envoy listens."""
        return bool(self._streams)

    # -- what is to be sent -------------------------------------------------------------------------------------------

    def offer(self, target: Packed) -> None:
        """A new configuration, in place of all before."""
        self._target = target
        new = {kind: dict(target.get(kind, {})) for kind in ORDER}
        old = self._published
        both = {kind: {**old[kind], **new[kind]} for kind in (SECRET, CLUSTER, ENDPOINTS)}
        routed = {kind: new[kind] for kind in (LISTENER, ROUTES)}
        left = {kind: new[kind] for kind in (SECRET, CLUSTER, ENDPOINTS)}
        self._steps = [both, routed, left]
        self._waits_for = {}
        self._go_on()

    def tick(self) -> None:
        """Time has passed."""
        if self._waits_for and self._clock() >= self._until:
            self._waits_for = {}
            self._go_on()

    def _go_on(self) -> None:
        """The next steps, as far as nothing has to be waited for."""
        while not self._waits_for:
            if not self._steps:
                self._done()
                return
            self._publish(self._steps.pop(0))

    def _done(self) -> None:
        if self._streams and self._target and self._good is not self._target:
            self._good = self._target
            self._taken()

    def _publish(self, step: Mapping[str, dict[str, bytes]]) -> None:
        changed = [kind for kind in ORDER if kind in step and step[kind] != self._published[kind]]
        if CLUSTER in changed and ENDPOINTS in step and ENDPOINTS not in changed:
            changed.append(
                ENDPOINTS
            )  # a cluster that is made anew waits for its endpoints, though they are as they were
        for kind in changed:
            self._published[kind] = step[kind]
            self._versions[kind] += 1
        self._waits_for = {kind: self._versions[kind] for kind in changed} if self._streams else {}
        self._until = self._clock() + PATIENCE
        for stream in self._streams:
            for kind in sorted(changed, key=ORDER.index):
                if kind in stream.wanted:
                    self._respond(stream, kind)
        self._settle()

    def _respond(self, stream: Stream, kind: str) -> None:
        self._nonce += 1
        nonce = str(self._nonce)
        known = self._published[kind]
        names = sorted(known) if kind in ALL_NAMES else sorted(stream.wanted[kind] & known.keys())
        stream.nonces[kind] = nonce
        stream.sent[kind] = self._versions[kind]
        self._send(stream, Response(kind, str(self._versions[kind]), nonce, tuple(known[name] for name in names)))

    def _settle(self) -> None:
        """Forget what every stream has taken, or has not asked for."""
        for kind, version in list(self._waits_for.items()):
            if all(self._has(stream, kind, version) for stream in self._streams):
                del self._waits_for[kind]

    def _has(self, stream: Stream, kind: str, version: int) -> bool:
        wanted = stream.wanted.get(kind)
        known = self._published[kind]
        if kind in ALL_NAMES:
            return stream.taken.get(kind, -1) >= version
        if kind in (ENDPOINTS, ROUTES) and known.keys() - (wanted or frozenset()):
            return False  # it will ask for those of new clusters and listeners
        if wanted is None or not wanted & known.keys():
            return True
        return stream.taken.get(kind, -1) >= version

    # -- what an Envoy says -------------------------------------------------------------------------------------------

    def joined(self) -> Stream:
        """A stream begins."""
        stream = Stream()
        self._streams.append(stream)
        return stream

    def left(self, stream: Stream) -> None:
        """A stream has ended."""
        if stream in self._streams:
            self._streams.remove(stream)
        if not self._streams:  # nobody is to be spared anything: whoever comes next gets all of it
            steps, self._steps, self._waits_for = self._steps, [], {}
            for step in steps:
                self._publish(step)
        else:
            self._settle()
            self._go_on()

    def heard(self, stream: Stream, kind: str, names: frozenset[str], nonce: str, error: str | None) -> None:
        """A DiscoveryRequest; ``error`` None: what ``nonce`` names was taken."""
        if kind not in KINDS:
            return
        if nonce and nonce != stream.nonces.get(kind):
            return  # about a response that was overtaken
        if nonce and error is not None:
            self._refused(stream, kind, error)
            return
        if nonce:
            stream.taken[kind] = stream.sent[kind]
        new = stream.wanted.get(kind) != names
        first = kind not in stream.wanted
        stream.wanted[kind] = names
        if first or (new and kind not in ALL_NAMES):
            self._respond(stream, kind)
            if kind == SECRET and self._waits_for:  # of a listener that is being taken: with that it is, or not
                stream.taken.pop(kind, None)
                self._waits_for[kind] = self._versions[kind]
        if self._waits_for:
            self._settle()
            self._go_on()
        elif not self._steps and self._all_taken():
            self._done()

    def _all_taken(self) -> bool:
        return all(
            self._has(stream, kind, self._versions[kind])
            for stream in self._streams
            for kind in ORDER
            if self._published[kind]
        )

    def _refused(self, stream: Stream, kind: str, message: str) -> None:
        stream.taken[kind] = stream.sent[kind]  # there will be no other word about it
        good = self._good
        kept = good is not None and good is not self._target
        self._rejected(Rejection(kind, message, kept or good is not None))
        if kept:
            assert good is not None
            self.offer(good)
