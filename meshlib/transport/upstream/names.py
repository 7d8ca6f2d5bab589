"""Names of endpoints -> addresses, off the path of calls.

A name is resolved once when it is first needed; after that calls use what is known while a background thread looks again
every ``REFRESH`` seconds. When a look fails, the last good answer stays: a resolver that is down takes nobody down with it.
The first look is bounded by the caller's connect timeout, which ``getaddrinfo`` by itself knows nothing of.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import queue
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.engine.cluster import BoundCluster

log = logging.getLogger("meshlib.names")

REFRESH = 60.0
"""Seconds between looks at a name (Istio's dnsRefreshRate)."""
RETRY = 5.0
"""Seconds until the next look after one that failed."""
KEPT = 600.0
"""Seconds that a name nobody asks for is looked after."""
MAX_NAMES = 4096
MAX_THREADS = 4

Lookup = Callable[[str], Sequence[str]]


def getaddrinfo(name: str) -> Sequence[str]:
    """The addresses of a name: IPv4 if it has any, else IPv6, as Istio's clusters prefer. Raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    for family in (socket.AF_INET, socket.AF_INET6):
        addresses = [str(info[4][0]) for info in found if info[0] == family]
        if addresses:
            return list(dict.fromkeys(addresses))
    raise socket.gaierror(socket.EAI_NONAME, "the name has no IP address")


def is_name(host: str) -> bool:
    """Whether a host has to be resolved: it is neither an address nor a socket's path."""
    if host.startswith("unix:"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


class _Name:
    """What is known about a name."""

    __slots__ = ("addresses", "asked", "due", "error", "looking", "waiting", "watchers")

    def __init__(self, now: float) -> None:
        self.addresses: tuple[str, ...] = ()
        self.error: OSError | None = None  # of the last look, None when it was good
        self.asked = now
        self.due = now
        self.looking = False
        self.waiting: list[Callable[[], None]] = []
        self.watchers: list[weakref.ref[BoundCluster]] = []


class Names:
    """The names of one mesh. ``failures`` counts looks that failed; ``forget`` (a method, held weakly) is given the targets
    of addresses that a name has no more."""

    def __init__(
        self, clock: Clock, lookup: Lookup = getaddrinfo, forget: Callable[[Sequence[object]], None] | None = None
    ) -> None:
        self._clock = clock
        self._lookup = lookup
        self._forget = None if forget is None else weakref.WeakMethod(forget)
        self.failures = 0
        self._closed = False
        self._names: dict[str, _Name] = {}
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._refresher: threading.Thread | None = None
        self._stop = threading.Event()

    # -- asking -----------------------------------------------------------------------------------------------------

    def known(self, name: str) -> tuple[str, ...]:
        """What is known now, without waiting; a look that is due begins beside."""
        entry = self._names.get(name)
        if entry is None:
            return ()
        entry.asked = now = self._clock.monotonic()
        if now >= entry.due and not entry.looking:
            self._look(name, entry)
        return entry.addresses

    def resolve(self, name: str, timeout: float | None) -> tuple[str, ...]:
        """The addresses, waiting for the first look at most ``timeout`` seconds. Raises OSError, TimeoutError."""
        found = self.known(name)
        if found:
            return found
        looked = threading.Event()
        entry = self._first_look(name, looked.set)
        if not looked.wait(timeout):
            raise TimeoutError(f"the name {name} was not resolved in time")
        return _answer(entry, name)

    async def resolve_async(self, name: str) -> tuple[str, ...]:
        """The addresses; the caller bounds the wait. Raises OSError."""
        found = self.known(name)
        if found:
            return found
        loop = asyncio.get_running_loop()
        looked: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not looked.done():
                looked.set_result(None)

        def wake_from_a_thread() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        entry = self._first_look(name, wake_from_a_thread)
        await looked
        return _answer(entry, name)

    def watch(self, cluster: BoundCluster) -> None:
        """Keep a cluster's endpoints at what its names resolve to, from now on and until nobody holds the cluster."""
        for endpoint in cluster.spec.endpoints:
            name = endpoint.address
            if not is_name(name):
                continue
            with self._lock:
                entry = self._names.setdefault(name, _Name(self._clock.monotonic()))
                entry.watchers = [w for w in entry.watchers if w() is not None]
                entry.watchers.append(weakref.ref(cluster))
                known = entry.addresses
            if known:
                self._tell(cluster, name, known)
            elif not entry.looking:
                self._look(name, entry)
            self._keep_fresh()

    # -- looking ----------------------------------------------------------------------------------------------------

    def _first_look(self, name: str, done: Callable[[], None]) -> _Name:
        with self._lock:
            entry = self._names.get(name)
            if entry is None:
                if len(self._names) >= MAX_NAMES:
                    self._forget_oldest()
                entry = self._names[name] = _Name(self._clock.monotonic())
            entry.waiting.append(done)
            look = not entry.looking
        if self._closed:
            done()
        elif look:
            self._look(name, entry)
        return entry

    def _forget_oldest(self) -> None:
        unwatched = [(e.asked, n) for n, e in self._names.items() if not any(w() is not None for w in e.watchers)]
        for _, name in sorted(unwatched)[: max(1, MAX_NAMES // 10)]:
            del self._names[name]

    def _look(self, name: str, entry: _Name) -> None:
        with self._lock:
            if entry.looking:
                return
            entry.looking = True
            start = self._jobs.qsize() >= self._idle and self._threads < MAX_THREADS and not self._closed
        if start and not self._start_worker():
            with self._lock:
                nobody = not self._threads
            if nobody:
                self._ended(name, (), OSError("no thread could be started to look the name up"))
                return
        self._jobs.put(name)

    def _start_worker(self) -> bool:
        """False when there can be none."""
        with self._lock:
            self._threads += 1
        try:
            threading.Thread(target=self._work, args=(self._jobs,), name="meshlib-names", daemon=True).start()
        except RuntimeError:  # out of threads, or the interpreter is ending
            with self._lock:
                self._threads -= 1
            return False
        return True

    def _work(self, jobs: queue.SimpleQueue[str | None]) -> None:
        name: str | None = None
        try:
            while True:
                with self._lock:
                    self._idle += 1
                try:
                    name = jobs.get()
                finally:
                    with self._lock:
                        self._idle -= 1
                if name is None:
                    return
                self._looked(name)
        except BaseException as died:
            self._replace(jobs, name, died)
            raise

    def _replace(self, jobs: queue.SimpleQueue[str | None], name: str | None, died: BaseException) -> None:
        """A worker ends by something that no look should raise (SystemExit ...): its look is given back, and others go on."""
        if jobs is not self._jobs:
            return  # of the process that forked this one
        with self._lock:
            self._threads -= 1
        if name is not None:
            self._ended(name, (), _failure(died))
        if not self._closed:
            self._start_worker()

    def _looked(self, name: str) -> None:
        """One look, and all that follows from it."""
        error: OSError | None = None
        addresses: tuple[str, ...] = ()
        try:
            addresses = tuple(self._lookup(name))
        except Exception as failed:  # noqa: BLE001 (whatever a resolver raises, of its plugins and codecs too, is not an answer)
            error = _failure(failed)
        if not addresses and error is None:
            error = socket.gaierror(socket.EAI_NONAME, "the resolver returned no address")
        self._ended(name, addresses, error)

    def _ended(self, name: str, addresses: tuple[str, ...], error: OSError | None) -> None:
        """What a look has found is known, and told to those who wait."""
        now = self._clock.monotonic()
        with self._lock:
            entry = self._names.get(name)
            if entry is None:
                return
            entry.looking = False
            before = entry.addresses
            if error is None:
                if entry.error is not None:
                    log.info("the name %s resolves again", name)
                entry.addresses, entry.error, entry.due = addresses, None, now + REFRESH
            else:
                self.failures += 1
                if entry.error is None and before:
                    log.warning("the name %s no longer resolves (%s); its last addresses stay in use", name, error)
                entry.error, entry.due = error, now + RETRY
            waiting, entry.waiting = entry.waiting, []
            watchers = [cluster for watcher in entry.watchers if (cluster := watcher()) is not None]
        for done in waiting:
            done()
        if error is None and set(addresses) != set(before):
            for cluster in watchers:
                try:
                    self._tell(cluster, name, addresses)
                except Exception:
                    log.exception("the addresses of %s could not be taken over by %s", name, cluster.spec.key)

    def _tell(self, cluster: BoundCluster, name: str, addresses: tuple[str, ...]) -> None:
        if cluster.spec.resolution == "dns":  # a logical name stays one endpoint, its address is taken at connect
            gone = cluster.resolved(name, tuple(sorted(addresses)), self._clock.monotonic())
            forget = None if self._forget is None else self._forget()
            if gone and forget is not None:
                forget(gone)

    # -- refreshing -------------------------------------------------------------------------------------------------

    def _keep_fresh(self) -> None:
        with self._lock:
            if self._refresher is not None:
                return
            self._refresher = threading.Thread(
                target=self._refresh, args=(self._stop,), name="meshlib-names-refresh", daemon=True
            )
        self._refresher.start()

    def _refresh(self, stop: threading.Event) -> None:
        while not stop.wait(1.0):
            try:
                self.refresh()
            except Exception:
                log.exception("names could not be refreshed; the next try is in a second")

    def refresh(self) -> None:
        """Begin the looks that are due for watched names, and forget names that nobody has asked for in a while."""
        now = self._clock.monotonic()
        for name, entry in list(self._names.items()):
            watched = any(w() is not None for w in entry.watchers)
            if watched and now >= entry.due and not entry.looking:
                self._look(name, entry)
            elif not watched and not entry.looking and now - entry.asked > KEPT:
                with self._lock:
                    self._names.pop(name, None)

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``."""
        return {
            "failures": self.failures,
            "names": {
                name: {"addresses": list(e.addresses), "error": str(e.error) if e.error is not None else ""}
                for name, e in list(self._names.items())
            },
        }

    def after_fork(self) -> None:
        """In a forked child the threads are gone, and a lock may be held by one of them."""
        watched = self._refresher is not None
        self._reset()
        for entry in self._names.values():
            entry.looking = False
            entry.waiting = []
        if watched:
            self._keep_fresh()

    def close(self) -> None:
        """Stop looking; who waits for a look waits no more."""
        self._closed = True
        self._stop.set()
        with self._lock:
            threads = self._threads
            waiting = [done for entry in self._names.values() for done in entry.waiting]
        for _ in range(threads):
            self._jobs.put(None)
        for done in waiting:
            done()


def _failure(error: BaseException) -> OSError:
    """What callers are told of a look that raised."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, UnicodeError):  # getaddrinfo's answer to labels that are too long
        return socket.gaierror(socket.EAI_NONAME, str(error))
    made = OSError(f"looking up the name raised {type(error).__name__}: {error}")
    made.__cause__ = error
    return made


def _answer(entry: _Name, name: str) -> tuple[str, ...]:
    if entry.addresses:
        return entry.addresses
    raise entry.error or socket.gaierror(socket.EAI_NONAME, f"the name {name} was not found")
