"""A mesh's admin endpoint over its life: it listens as long as the mesh is open, and a forked child has its own, or none."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Container
from typing import TypedDict

from meshlib.admin.address import Address, UnixAddress
from meshlib.admin.listening import Listener, Taken, listen_tcp, listen_unix
from meshlib.admin.request import NOTHING
from meshlib.admin.runtime_folder import MOST, announce, claim, name, own_folder, sweep, sweep_like, withdraw
from meshlib.admin.server import AdminServer, Respond
from meshlib.problems import MeshError

log = logging.getLogger("meshlib.admin")

SETTLED = 0.2
"""Seconds after a fork in which a child that only begins another program does so."""


class AdminFacts(TypedDict):
    """``address`` "" when nothing listens; ``why`` says why not."""

    address: str
    why: str
    requests: int
    failures: int
    dropped: int


class AdminEndpoint:
    """Listens from ``start`` to ``close``. ``changing``: the paths at which POST is taken."""

    def __init__(self, address: Address, respond: Respond, changing: Container[str] = NOTHING) -> None:
        if isinstance(address, UnixAddress) and address.path:
            address = UnixAddress(os.path.abspath(address.path))
        self.address = address
        self._respond = respond
        self._changing = changing
        self._at: _Listening | None = None
        self._why = ""
        self._ended = threading.Event()

    def start(self) -> None:
        """Raises ``MeshError`` saying what is in the way."""
        listener = _listener(self.address)
        try:
            server = AdminServer(listener.socket, self._respond, changing=self._changing)
            server.start()
        except BaseException:
            listener.close()
            raise
        self._at = _Listening(listener, server)
        self._at.let_go = weakref.finalize(self, self._at.close)  # a mesh that is dropped, and the end of the process

    def status(self) -> AdminFacts:
        """For ``mesh.status()``."""
        at = self._at
        if at is None:
            return {"address": "", "why": self._why, "requests": 0, "failures": 0, "dropped": 0}
        server = at.server
        return {
            "address": at.listener.shown,
            "why": "",
            "requests": server.requests,
            "failures": server.failures,
            "dropped": server.dropped,
        }

    def after_fork(self) -> None:
        """In a forked child: what listens is the parent's. An address with the process's number is another one here."""
        at, self._at = self._at, None
        if at is None:
            return
        at.abandon()
        if not self.address.each_process:
            self._why = f"process {at.pid}, which this one was forked from, listens at {at.listener.shown}"
            return
        self._why = "this process was forked just now: it will listen as soon as it has settled"
        self._ended = ended = threading.Event()
        with contextlib.suppress(RuntimeError):  # out of threads
            threading.Thread(
                target=self._start_soon, args=(ended, at.pid), name="meshlib-admin-starts", daemon=True
            ).start()

    def _start_soon(self, ended: threading.Event, parent: int) -> None:
        """A child that only begins another program (subprocess with ``preexec_fn``, gevent's subprocess) has done so by then,
        and has left no socket behind."""
        if ended.wait(SETTLED):
            return
        try:
            self.start()
        except (MeshError, OSError, RuntimeError) as error:
            self._why = str(error)
            log.warning("this process (forked from %d) has no admin endpoint: %s", parent, error)
        if ended.is_set():
            self.close()

    def close(self) -> None:
        """Idempotent."""
        self._ended.set()
        at, self._at = self._at, None
        self._why = "the mesh is closed"
        if at is not None:
            at.let_go()


class _Listening:
    """What is there while it listens. It does not know the endpoint, which may be dropped."""

    def __init__(self, listener: Listener, server: AdminServer) -> None:
        self.listener = listener
        self.server = server
        self.pid = os.getpid()
        self.let_go: weakref.finalize[..., AdminEndpoint]
        shown = listener.path or listener.shown
        if listener.path and os.path.dirname(listener.path) == _folder():
            claim(listener.path)
            self._entry = listener.path
        else:
            self._entry = announce(self.pid, shown, "sock" if listener.path else "tcp")

    def close(self) -> None:
        if os.getpid() != self.pid:
            return
        self.server.close()
        self.listener.close()
        if self._entry:
            withdraw(self._entry)

    def abandon(self) -> None:
        self.let_go.detach()
        self.server.abandon()
        self.listener.abandon()


def _folder() -> str:
    try:
        return own_folder()
    except (MeshError, OSError):
        return ""


def _listener(address: Address) -> Listener:
    if not isinstance(address, UnixAddress):
        return listen_tcp(address)
    pid = os.getpid()
    if address.path:
        sweep_like(address.path)
        return listen_unix(address.of(pid))
    folder = own_folder()
    sweep(folder)
    for number in range(1, MOST):
        # another mesh of this process; or another process that has this number, in a container that shares the folder
        with contextlib.suppress(Taken):
            return listen_unix(name(folder, pid, number, "sock"))
    return listen_unix(name(folder, pid, MOST, "sock"))
