"""Certificates in files, and alarms that ring when the test moves the clock."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from meshlib.alarms import Alarm, Alarms
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from meshlib.security.svid import Svid
from tests.support.fake_clock import FakeClock

REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


class HandAlarms(Alarms):
    """Rings in the test's own thread, when ``advance`` has moved the clock there."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.hand = clock
        self.due: list[tuple[float, int, Alarm]] = []
        self.order = itertools.count()

    def after(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        alarm = Alarm(ring)
        heapq.heappush(self.due, (self.hand.now + seconds, next(self.order), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        end = self.hand.now + seconds
        while self.due and self.due[0][0] <= end:
            at, _, alarm = heapq.heappop(self.due)
            self.hand.now = max(self.hand.now, at)
            if alarm.ring is not None:
                alarm.ring()
        self.hand.now = end


class Files:
    """Certificate, key and bundle of one process in a folder."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "svid.pem"
        self.key = folder / "svid.key"
        self.bundle = folder / "roots.pem"

    def write(self, svid: Svid | None = None, *roots: Authority | bytes) -> None:
        if svid is not None:
            put(self.certificate, svid.chain_pem)
            put(self.key, svid.key_pem)
        if roots:
            ders = [root.root_der if isinstance(root, Authority) else root for root in roots]
            put(self.bundle, "".join(map(pem_of, ders)).encode())


def put(file: Path, content: bytes) -> None:
    """As somebody replaces a file who knows how."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, file)
