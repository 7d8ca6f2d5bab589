"""A proxy of several processes: resources are read and compiled once, by the parent, and the workers are forked with them.

What they have of it they share with the parent until somebody writes to it, so all that was made is put aside from the garbage
collector first (``gc.freeze``), which would touch every object. Changes of the files each worker reads for itself, one that
replaces another before it serves. The parent watches nothing: a fork amid what another thread does (an import, for one) leaves
its locks held in the worker.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.admin.address import Address, UnixAddress, parse_address
from meshlib.admin.endpoint import AdminEndpoint
from meshlib.admin.runtime_folder import name, own_folder
from meshlib.problems import MeshError
from meshlib.proxy.health import HealthPort
from meshlib.proxy.notify import notify
from meshlib.proxy.pages import CHANGING
from meshlib.proxy.process import Inbound, ProxyProcess, ProxySettings, run
from meshlib.proxy.watchdog import Heartbeats, interval
from meshlib.proxy.worker_pages import WorkerPages, asker, socket_of
from meshlib.serving.workers import Workers

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.proxy.dns_launch import Dns
    from meshlib.proxy.gateway_listeners import GatewayPlaces
    from meshlib.proxy.inbound_application import ApplicationAddress
    from meshlib.proxy.process import Proxied

log = logging.getLogger("meshlib.proxy")

Slots = Sequence[socket.socket]
"""A listening socket for each worker."""


class Fleet:
    """``outbound`` and each of ``inbound`` have a socket for each of ``count`` workers, which forward by ``mesh``. ``settings``
    are those of one worker, but ``admin``, which is the parent's; ``health`` is the port for probes. The ports of a ``gateway``
    each worker opens for itself."""

    def __init__(
        self,
        mesh: Proxied,
        count: int,
        clock: Clock,
        settings: ProxySettings,
        outbound: Sequence[Slots],
        inbound: Sequence[tuple[Slots, ApplicationAddress | None]] = (),
        health: socket.socket | None = None,
        ready: Callable[[], object] = lambda: None,
        *,
        gateway: GatewayPlaces | None = None,
        dns: Sequence[Dns] = (),
    ) -> None:
        """``dns``: for each worker what tells names."""
        self._mesh = mesh
        self._dns = dns
        self._settings = settings
        self._outbound = outbound
        self._inbound = inbound
        self._health = health
        self._gateway = gateway
        self._ready = ready
        self._folder = tempfile.mkdtemp(prefix="meshlib-proxy-")  # of mode 0700
        within = interval()
        self._beats = None if within is None else Heartbeats(count, within / 2, clock.monotonic)
        self.workers = Workers(
            count,
            self._work,
            clock,
            math.inf if settings.exit_on_zero else settings.drain,
            self._told,
            every=math.inf if within is None else within / 4,
            beat=self._beat,
        )
        self._pages = WorkerPages(
            lambda: self.workers.pids,
            asker(self._folder),
            lambda: self._ending or self.workers.stopping,
            self._end,
            self._let_go,
        )
        self._ending = False  # from the moment that it is asked to
        # whether listeners are to accept no more: those for callers alone, or (False) all
        self._drained: bool | None = None
        self._admin = AdminEndpoint(_one(settings.admin), self._pages.respond, CHANGING) if settings.admin else None
        self._port = None if health is None else HealthPort(health, self._pages.respond)

    def run(self) -> int:
        """In the main thread, until it is told to stop; the exit code. Raises ``MeshError`` for an admin address that cannot be
        listened at."""
        try:
            if self._admin is not None:
                self._admin.start()
            if self._port is not None:
                self._port.start()
            gc.collect()
            gc.freeze()
            return self.workers.run()
        finally:
            gc.unfreeze()
            if self._admin is not None:
                self._admin.close()
            if self._port is not None:
                self._port.close()
            if self._beats is not None:
                self._beats.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _beat(self) -> None:
        """systemd hears that all are alive (``watchdog.py``)."""
        if self._beats is not None and self._beats.alive(self.workers.pids):
            notify("WATCHDOG=1")

    def _told(self, what: str) -> None:
        if what == "ready":
            notify("READY=1")
            self._ready()
        else:
            notify("STOPPING=1")
            self._let_go(inbound_only=False)

    def _end(self) -> None:
        """As SIGTERM does, from another thread."""
        self._ending = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _let_go(self, inbound_only: bool) -> None:
        """Have workers alone hold the sockets: what they close is closed, and not a queue that nobody serves."""
        if self._drained is not False:
            self._drained = inbound_only
        for slots in [*(slots for slots, _ in self._inbound), *([] if inbound_only else self._outbound)]:
            for each in slots:
                each.close()

    def _process(self, slot: int, parent: int) -> ProxyProcess:
        settings = replace(self._settings, admin=f"unix:{socket_of(self._folder, slot)}")
        outbound = [slots[slot] for slots in self._outbound if slots[slot].fileno() >= 0]
        inbound = [Inbound(slots[slot], app) for slots, app in self._inbound if slots[slot].fileno() >= 0]
        beat = None if self._beats is None else self._beats.of(slot)
        process = ProxyProcess(
            self._mesh,
            outbound,
            settings,
            inbound,
            parent=parent,
            gateway=self._gateway,
            beat=beat,
            dns=self._dns[slot].part if self._dns else None,
        )
        if self._drained is not None:
            process.close_listeners(self._drained)
        return process

    def _work(self, ready: Callable[[], None], parent: int, slot: int) -> int:
        """In a worker."""
        if self._beats is not None:
            self._beats.beat(slot)
        if self._admin is not None:
            self._admin.after_fork()
        if self._port is not None:
            self._port.abandon()
        _keep(slot, [*self._outbound, *(slots for slots, _ in self._inbound)])
        for number, each in enumerate(self._dns):
            if number != slot:
                each.sockets.close()
        try:
            self._mesh._configuration.follow()
        except MeshError as error:
            log.error("%s", error)
        try:
            run(lambda: self._process(slot, parent), ready)
        except MeshError as error:
            log.error("%s", error)
            return 1
        finally:
            self._mesh.close()
        return 0


def _keep(slot: int, places: Sequence[Slots]) -> None:
    """Close what the other workers listen with."""
    for slots in places:
        for number, each in enumerate(slots):
            if number != slot:
                each.close()


def _one(admin: str) -> Address:
    """The address of the parent alone: a worker that is forked has its own."""
    address = parse_address(admin, "--admin")
    if isinstance(address, UnixAddress) and address.each_process:
        pid = os.getpid()
        return UnixAddress(address.of(pid) if address.path else name(own_folder(), pid, 1, "sock"))
    return address
