"""A few threads for what blocking calls leave behind (mirrored copies): bounded, never waited for."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger("meshlib.background")

MAX_THREADS = 4
MAX_WAITING = 1000


class Background:
    """``dropped`` counts jobs refused because too many waited, ``failures`` those that raised."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._lock = threading.Lock()
        self.dropped = 0
        self.failures = 0

    def submit(self, job: Callable[[], None], give_up: Callable[[], None]) -> None:
        """Run ``job`` soon; ``give_up`` is called instead when too many wait, or nobody can run it."""
        with self._lock:
            refused = self._closed or self._jobs.qsize() >= MAX_WAITING
            start = not refused and self._jobs.qsize() >= self._idle and self._threads < MAX_THREADS
        if start and not self._start_worker():
            refused = not self._threads
        with self._lock:
            refused = refused or self._closed  # after ``close`` nobody would take it
            if not refused:
                self._jobs.put(job)
        if refused:
            self.dropped += 1
            give_up()

    def failed(self) -> None:
        """A job raised (call from its handler): logged once with its cause, then counted."""
        self.failures += 1
        if self.failures == 1:
            log.exception("a mirrored copy failed unexpectedly; further ones are only counted (status: mirrors)")

    def close(self) -> None:
        """End the threads, each after what it is at and what waits before that."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _start_worker(self) -> bool:
        """False when there can be none."""
        with self._lock:
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="meshlib-background", daemon=True).start()
        except RuntimeError:  # out of threads, or the interpreter is ending
            with self._lock:
                self._threads -= 1
            return False
        return True

    def _work(self) -> None:
        try:
            while True:
                with self._lock:
                    self._idle += 1
                try:
                    job = self._jobs.get()
                finally:
                    with self._lock:
                        self._idle -= 1
                if job is None:
                    return
                try:
                    job()
                except Exception:  # noqa: BLE001 (nobody waits for it: counted and logged, never raised)
                    self.failed()
        except BaseException:  # of a job (SystemExit ...): another worker takes over
            self.failed()
            with self._lock:
                self._threads -= 1
            if not self._closed:
                self._start_worker()
            raise
