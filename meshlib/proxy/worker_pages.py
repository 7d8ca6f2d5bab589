"""The admin pages of a proxy with several workers, as their parent has them: metrics added up, readiness of all, changes told
to all, and the rest as one worker shows it (``?worker=1`` for another).

Each worker has an admin endpoint of its own, at a unix socket that only this user reaches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, urlencode

from meshlib.admin.address import UnixAddress
from meshlib.admin.attach import Attached
from meshlib.admin.page import TEXT, Page, as_json, text, whole
from meshlib.admin.request import AdminRequest
from meshlib.problems import MeshError
from meshlib.proxy.pages import DRAIN, OK, QUIT
from meshlib.telemetry.summed_scrapes import ScrapeSums

PATIENCE = 2.0
"""Seconds that a worker has for a page."""
Ask = Callable[[int, str, str], "Answer"]


class Answer:
    """A page of a worker."""

    __slots__ = ("body", "kind", "status")

    def __init__(self, status: int, kind: str, body: bytes) -> None:
        self.status = status
        self.kind = kind
        self.body = body


class Silent(MeshError):
    """A worker did not respond."""


def asker(folder: str) -> Ask:
    """Asks workers whose sockets are in ``folder``."""

    def ask(slot: int, method: str, path: str) -> Answer:
        try:
            return Answer(*Attached(UnixAddress(socket_of(folder, slot)), patience=PATIENCE).ask(method, path))
        except MeshError as error:
            raise Silent(f"worker {slot} does not respond: {error}") from error

    return ask


def socket_of(folder: str, slot: int) -> str:
    """Where a worker's admin endpoint is."""
    return f"{folder}/worker-{slot}.sock"


class WorkerPages:
    """``workers``: the pid of each slot that is filled; ``stopping``: whether the parent has been told to end; ``end`` tells
    it to. ``let_go`` closes the parent's own copies of listening sockets before workers are told to close theirs: True for
    those of callers alone."""

    def __init__(
        self,
        workers: Callable[[], Mapping[int, int]],
        ask: Ask,
        stopping: Callable[[], bool],
        end: Callable[[], None],
        let_go: Callable[[bool], None],
    ) -> None:
        self._workers = workers
        self._ask = ask
        self._stopping = stopping
        self._end = end
        self._let_go = let_go
        self._sums = ScrapeSums()

    def respond(self, request: AdminRequest) -> Page:
        """The page that is asked for."""
        own = self._own(request)
        return self._of_one(request) if own is None else own

    def _own(self, request: AdminRequest) -> Page | None:
        if request.path in ("/ready", "/healthz/ready"):
            return self._ready()
        if request.path == "/stats/prometheus" and "worker" not in request.query:
            return self._metrics()
        if request.path == "/server_info":
            return self._server_info()
        if request.path == QUIT:
            self._end()
            return text(OK)
        if request.path == DRAIN:
            return self._tell_all(request)
        return None

    def _asked(self, method: str, path: str) -> Iterator[tuple[int, int, Answer | None]]:
        """Slot, pid and page of each; None: it did not respond."""
        for slot, pid in sorted(self._workers().items()):
            try:
                yield slot, pid, self._ask(slot, method, path)
            except Silent:
                yield slot, pid, None

    def _ready(self) -> Page:
        """Ready as long as one worker is: the kernel has a listening socket for each, and one that dies is replaced."""
        if self._stopping():
            return text("DRAINING\n", 503)
        said = "no worker responds"
        for _, _, answer in self._asked("GET", "/ready"):
            if answer is not None and answer.status == 200:
                return text("LIVE\n")
            if answer is not None:
                said = answer.body.decode("utf-8", "replace").strip()
        return text(f"{said}\n", 503)

    def _metrics(self) -> Page:
        scrapes: dict[int, str | None] = {}
        for _, pid, answer in self._asked("GET", "/stats/prometheus"):
            good = answer is not None and answer.status == 200
            scrapes[pid] = answer.body.decode("utf-8", "replace") if answer is not None and good else None
        return whole(self._sums.combined(scrapes).encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _server_info(self) -> Page:
        found: dict[str, object] = {}
        workers = []
        for slot, pid, answer in self._asked("GET", "/server_info"):
            theirs = json.loads(answer.body) if answer is not None and answer.status == 200 else {}
            found = found or dict(theirs)
            workers.append({"worker": slot, "pid": pid, "state": theirs.get("state", "SILENT")})
        if self._stopping():
            found["state"] = "DRAINING"
        return as_json({**found, "pid": os.getpid(), "concurrency": len(workers), "workers": workers})

    def _tell_all(self, request: AdminRequest) -> Page:
        self._let_go("inboundonly" in request.query)
        silent = [slot for slot, _, answer in self._asked(request.method, _target(request)) if answer is None]
        if silent:
            return text(f"workers {', '.join(map(str, silent))} did not respond, the others have been told\n", 503)
        return text(OK)

    def _of_one(self, request: AdminRequest) -> Page:
        workers = self._workers()
        wanted = request.query.get("worker")
        if wanted is not None and not (wanted.isascii() and wanted.isdecimal() and int(wanted) in workers):
            return text(f"there is no worker {wanted[:20]!r}; there are {', '.join(map(str, sorted(workers)))}\n", 404)
        slot = int(wanted) if wanted is not None else min(workers, default=-1)
        try:
            answer = self._ask(slot, request.method, _target(request))
        except Silent as error:
            return text(f"{error}\n", 503)
        return whole(answer.body, answer.kind or TEXT, answer.status)


def _target(request: AdminRequest) -> str:
    query = {name: value for name, value in request.query.items() if name != "worker"}
    return quote(request.path) + (f"?{urlencode(query)}" if query else "")
