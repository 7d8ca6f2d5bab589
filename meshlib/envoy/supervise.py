"""A proxy whose engine is Envoy: a mesh that is compiled for it and followed, and the process of Envoy, which is begun again
when it ends, drained, and ended.

The main thread waits for signals, for Envoy's end and for what other threads tell it; all that changes is done there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from meshlib.envoy.configuration import Configuration, configuration
from meshlib.envoy.differences import differences
from meshlib.envoy.messages import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, packed
from meshlib.problems import MeshError
from meshlib.proxy import watchdog
from meshlib.proxy.drain import Drain, Phase
from meshlib.serving.workers import WELL, backoff

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayPort
    from meshlib.envoy.ads import AdsServer
    from meshlib.envoy.ads_state import Packed, Rejection
    from meshlib.envoy.child import Child, EnvoyAdmin
    from meshlib.envoy.inbound import InboundPort
    from meshlib.envoy.inbound_transparent import EveryPort
    from meshlib.envoy.tracing import Collector
    from meshlib.envoy.values import Json
    from meshlib.mesh.configuration import Configuration as InForce
    from meshlib.transport.core.mesh_core import MeshCore

log = logging.getLogger("meshlib.proxy")

TURN = 1.0
"""Seconds after which files are looked at, at most."""
LOOK = 0.05
"""Seconds between looks at what is about to change: whether Envoy is ready, or its last connection gone."""
KILL_AFTER = 5.0
"""Seconds that Envoy has to end once it is told to."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


class Followed(Protocol):
    """A ``Mesh``."""

    _core: MeshCore
    _configuration: InForce

    def reload(self) -> None:
        """Read the resources again."""
        ...


class Supervisor:
    """``run`` returns the exit code. ``outbound``: addresses and ports; ``drain``: how it ends;
    ``transparent``, ``logger``, ``collector``: as of ``configuration``."""

    def __init__(
        self,
        mesh: Followed,
        child: Child,
        envoy: EnvoyAdmin,
        outbound: Sequence[tuple[str, int]],
        drain: Drain,
        ready: Callable[[int], None],
        inbound: Sequence[InboundPort | EveryPort] = (),
        gateway: Callable[[GatewayPort], tuple[str, int]] | None = None,
        stopping: Callable[[], None] = lambda: None,
        *,
        transparent: bool = False,
        logger: Json | None = None,
        collector: Collector | None = None,
    ) -> None:
        self._mesh = mesh
        self._logger, self._collector = logger, collector
        self._clock = mesh._core.clock.monotonic
        self._child = child
        self._envoy = envoy
        self._outbound = outbound
        self._inbound = inbound
        self._gateway = gateway
        self._transparent = transparent
        self._listeners = 0
        self._drain = drain
        self._ready = ready
        self._stopping = stopping
        self._ads: AdsServer
        self._files: dict[str, bytes | None] = {}
        self._told: set[str] = set()
        self._closed: dict[int, str] = {}
        self._live = False
        self._was_ready = False
        self._accepted = False
        self._offered = self._taken = ""  # versions of the configuration
        self._failures = 0
        self._begun_at = 0.0
        self._again_at: float | None = None
        self._closed_listeners = False
        self._code = 0
        self._over = False
        self._compile = True
        self._beat = watchdog.told()
        self._beat_at = 0.0
        self._asked: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._woken, self._wake = socket.socketpair()

    # -- from other threads -------------------------------------------------------------------------------------------

    def changed(self, *_: object) -> None:
        """The mesh, or who this process is, is another one."""
        self._compile = True
        self._rouse()

    def drain_listeners(self) -> None:
        """POST /drain_listeners."""
        self._do(self._close_listeners)

    def quit(self) -> None:
        """POST /quitquitquit."""
        self._do(self._terminate)

    def rejected(self, said: Rejection) -> None:
        """Envoy has refused what it was sent."""
        self._do(lambda: self._refused(said))

    def taken(self) -> None:
        """Envoy has taken all that it was sent."""
        version = self._offered
        self._do(lambda: self._took(version))

    def version(self) -> str:
        """As of ``pages.Controls``."""
        return self._taken

    def why_not_ready(self) -> str:
        """As of ``pages.Controls``."""
        if self._drain.draining:
            return "DRAINING"
        if not self._child.pid:
            return "Envoy has ended, and is begun again"
        try:
            found = self._envoy.ask("/ready")
        except OSError as error:
            return f"Envoy does not respond: {error}"
        if found.status != 200:
            return found.body.decode("utf-8", "replace").strip() or str(found.status)
        if not self._accepted:
            return "Envoy has not taken its configuration yet"
        return next((f"port {port}: {why}" for port, why in self._closed.items()), "")

    def _do(self, what: Callable[[], None]) -> None:
        with self._lock:
            self._asked.append(what)
        self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake.send(b"\0")

    # -- the main thread ----------------------------------------------------------------------------------------------

    def run(self, ads: AdsServer) -> int:
        """Until it is told to stop. Raises ``MeshError`` for what it cannot begin with."""
        self._ads = ads
        with self._signals():
            self._compiled()
            ads.start()
            self._begin()
            try:
                while not self._over:
                    self._turn()
            finally:
                self._child.end(KILL_AFTER)
                ads.close()
        return self._code

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        for end in (self._woken, self._wake):
            end.setblocking(False)
        before = {each: signal.signal(each, lambda *_: None) for each in SIGNALS}
        fd = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for each, handler in before.items():
                signal.signal(each, handler)
            self._woken.close()
            self._wake.close()

    def _turn(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            if selector.select(self._wait()):
                self._hear()
        with self._lock:
            asked, self._asked = self._asked, []
        for each in asked:
            each()
        self._look_at_child()
        self._look_at_files()
        if self._compile and not self._drain.ending:
            self._compiled()
        self._tell_watchdog()
        self._look_at_end()

    def _tell_watchdog(self) -> None:
        """systemd hears that all is alive, as long as Envoy is."""
        if self._beat is not None and self._child.pid and self._clock() >= self._beat_at:
            self._beat_at = self._clock() + self._beat.every
            self._beat.tell()

    def _wait(self) -> float:
        if self._again_at is not None:
            return min(TURN, max(0.0, self._again_at - self._clock()))
        most = TURN if self._beat is None else min(TURN, self._beat.every)
        return LOOK if self._drain.ending or not self._live else most

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._woken.recv(4096):
                if number == signal.SIGTERM:
                    self._terminate()
                elif number == signal.SIGINT:
                    self._close_listeners()
                    self._terminate()
                elif number == signal.SIGHUP:
                    threading.Thread(target=self._reload, daemon=True).start()
                elif number == signal.SIGUSR1:
                    self._post("/reopen_logs")

    def _reload(self) -> None:
        try:
            self._mesh.reload()
        except MeshError as error:
            log.error("%s", error)

    def _post(self, target: str) -> None:
        try:
            self._envoy.ask(target, "POST")
        except OSError as error:
            log.warning("Envoy does not take %s: %s", target, error)

    # -- the configuration --------------------------------------------------------------------------------------------

    def _compiled(self) -> None:
        self._compile = False
        live = self._mesh._core.live
        if live is None:
            return
        identity = self._mesh._core.identity
        made = configuration(
            live.snapshot,
            self._outbound,
            None if identity is None else identity.latest,
            self._inbound,
            self._gateway,
            transparent=self._transparent,
            logger=self._logger,
            collector=self._collector,
        )
        self._files = dict(made.files)
        self._listeners = len(made.listeners)
        self._closed = dict(made.closed)
        for port, why in made.closed.items():
            log.error("nobody is let in at port %d: %s", port, why)
        for server, why in made.refused.items():
            self._once(f"connections to {server} are closed: {why}")
        ports = [each.known_as for each in self._inbound]
        resources = self._mesh._configuration.resources
        said = differences(
            live.snapshot,
            resources,
            made.unreachable,
            ports,
            by_pod=made.by_pod,
            transparent=self._transparent,
            spans=self._collector is not None,
        )
        for problem in said:
            self._once(str(problem))
        self._offered = live.snapshot.version
        self._ads.offer(packed_configuration(made))

    def _once(self, sentence: str) -> None:
        """What is worth a warning, the first time that it is so."""
        if sentence not in self._told:
            self._told.add(sentence)
            log.warning("%s", sentence)

    def _look_at_files(self) -> None:
        for path, before in self._files.items():
            try:
                with open(path, "rb") as file:
                    now: bytes | None = file.read()
            except OSError:
                now = None
            if now != before:
                self._compile = True

    def _refused(self, said: Rejection) -> None:
        log.error("%s", said.text)
        if not said.kept and not self._was_ready:
            self._code, self._over = 1, True

    def _took(self, version: str) -> None:
        self._accepted = True
        self._taken = version

    # -- Envoy --------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._again_at = None
        self._begun_at = self._clock()
        self._live = False
        self._child.begin()

    def _look_at_child(self) -> None:
        if self._again_at is not None:
            if self._clock() >= self._again_at and not self._drain.ending:
                self._begin()
            return
        code = self._child.ended()
        if code is not None:
            self._died(code)
        elif not self._live and self._is_live():
            self._live = True
            if not self._was_ready:
                self._was_ready = True
                self._ready(self._child.pid)
            else:
                log.info("Envoy is back, as process %d, with its configuration", self._child.pid)

    def _is_live(self) -> bool:
        """Whether it listens."""
        if not self._accepted:
            return False
        try:
            if self._envoy.ask("/ready").status != 200:
                return False
            return len(self._envoy.ask("/listeners").body.splitlines()) >= self._listeners
        except OSError:
            return False

    def _died(self, code: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if self._drain.ending:
            log.warning("Envoy has ended %s while it was drained", how)
            self._over = True
            return
        if not self._was_ready and code > 0:
            log.error("Envoy cannot begin: it has ended %s; it has said why above", how)
            self._code, self._over = 1, True
            return
        well = self._live and self._clock() - self._begun_at >= WELL
        self._failures = 0 if well else self._failures + 1
        wait = backoff(self._failures) if self._failures > 1 else 0.0
        self._live = False
        log.error("Envoy has ended %s; it is begun again in %.1f s", how, wait)
        self._again_at = self._clock() + wait

    # -- the end ------------------------------------------------------------------------------------------------------

    def _terminate(self) -> None:
        if not self._drain.ending:
            self._stopping()
            self._post("/healthcheck/fail")  # responses are the last of their connections from now on
        self._drain.begin()

    def _close_listeners(self) -> None:
        self._drain.close_listeners()
        self._stop_listening()

    def _stop_listening(self) -> None:
        if not self._closed_listeners:
            self._closed_listeners = True
            # the application's own requests go on where there are others: it may need them to end well
            self._post(
                "/drain_listeners?inboundonly" if self._inbound and not self._drain.closes_all else "/drain_listeners"
            )

    def _look_at_end(self) -> None:
        if not self._drain.ending:
            return
        if self._again_at is not None:
            self._over = True
            return
        connections = self._connections()
        phase = self._drain.phase(connections)
        if phase is Phase.CLOSING:
            self._stop_listening()
        elif phase is Phase.OVER:
            if connections:
                log.warning("%d connections were still open after the drain and are broken off", connections)
            self._over = True

    def _connections(self) -> int:
        """Of clients, open now."""
        names = quote(r"^(http|tcp)\.(in|out)bound.*\.downstream_cx_active$")
        try:
            found = self._envoy.ask(f"/stats?format=json&filter={names}")
            return sum(int(each.get("value", 0)) for each in json.loads(found.body)["stats"])
        except (OSError, ValueError, KeyError):
            return 0


def packed_configuration(made: Configuration) -> Packed:
    """As messages. Raises ``NotEnvoys``."""
    kinds = {
        CLUSTER: made.clusters,
        ENDPOINTS: made.endpoints,
        LISTENER: made.listeners,
        ROUTES: made.routes,
        SECRET: made.secrets,
    }
    return {kind: {name: packed(kind, values) for name, values in there.items()} for kind, there in kinds.items()}
