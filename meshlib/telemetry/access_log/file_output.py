"""Lines into a file, or to the program's own output.

A file is appended to, each batch in one write, so that lines of several processes stay whole. Before each batch its path is
looked at: a file that was moved away or removed is not written to any more. To a pipe no more is written at once than the
system keeps together; while nobody reads it, lines wait.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from meshlib.telemetry.access_log.writer import LinesLostError

log = logging.getLogger("meshlib.access_log")

BATCH = 256 * 1024
"""Bytes in one write to a file."""
PIECE = 64
"""Lines that are encoded at once."""
PIPE = 4096
"""To a pipe: PIPE_BUF, up to which writes of several processes do not mix."""
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""Of files O_NONBLOCK changes nothing; a pipe is not opened for ever."""
AGAIN = 0.2
"""Seconds until a pipe is tried again, and until it is asked whether anybody still wants that."""
Line = str | bytes
STREAMS = {"/dev/stdout": "stdout", "/dev/stderr": "stderr"}


class _Descriptor:
    """What both have: whole lines into a descriptor."""

    def __init__(self) -> None:
        self._torn = False
        """Whether what was written last ends amid a line."""
        self._done = 0
        """How many lines of those that ``_put`` was given last are written."""
        # the same for each batch: what is given back to the system and asked for again costs more than all copies of it (as
        # ``writev`` of pieces does: 55 page faults for 500 lines of JSON)
        self._buffer = bytearray()

    def _put(self, fd: int, lines: Sequence[Line], most: int, stopping: Callable[[], bool]) -> int:
        """Returns how many lines are lost. Raises BrokenPipeError, and ``LinesLostError``."""
        at = self._done = 0
        while at < len(lines):
            count, size = self._fill(lines, at, most)
            try:
                at += self._write(fd, lines[at : at + count], size)
                self._done = at
            except BlockingIOError:
                if stopping() or not self._writable(fd, stopping):
                    return len(lines) - at
            except BrokenPipeError:
                raise
            except OSError as error:
                raise LinesLostError(error, len(lines) - at) from error
        return 0

    def _fill(self, lines: Sequence[Line], at: int, most: int) -> tuple[int, int]:
        """Put lines from ``at`` on into the buffer: no more than ``most`` bytes, but for a line that is longer. How many they
        are, and their bytes."""
        buffer, count, size = self._buffer, 0, 0
        if len(buffer) > most:
            del buffer[most:]
        if self._torn:
            buffer[:1] = b"\n"
            size = 1
        step = max(min(PIECE, most // (len(lines[at]) + 1)), 1)
        while at + count < len(lines):
            some = lines[at + count : at + count + step]
            piece = _encoded(some)
            end = size + len(piece)
            if end > most and (count or len(some) > 1):
                if step == 1:
                    break
                step = max(min(len(some) - 1, len(some) * (most - size) // len(piece)), 1)
                continue
            buffer[size:end] = piece
            count, size = count + len(some), end
        return count, size

    def _write(self, fd: int, lines: Sequence[Line], size: int) -> int:
        """Write so many bytes of the buffer, which are these lines. Returns how many have gone out whole: of one that has not,
        the rest of its line is left, which is ended before anything else is written."""
        with memoryview(self._buffer) as buffer, buffer[:size] as data:
            written = os.write(fd, data)
        if written == size:
            self._torn = False
            return len(lines)
        written -= self._torn
        if written < 0:
            return 0
        whole = 0
        for line in lines:
            size = len(_encoded([line]))
            if written < size:
                break
            written -= size
            whole += 1
        self._torn = written > 0
        return whole

    @staticmethod
    def _writable(fd: int, stopping: Callable[[], bool]) -> bool:
        """Wait until there is room. False: stopping, and there is none."""
        while True:
            if select.select([], [fd], [], AGAIN)[1]:
                return True
            if stopping():
                return False


def _encoded(lines: Sequence[Line]) -> bytes:
    """Lines in a row: those of one format are texts, or bytes, nearly all of them."""
    try:
        if type(lines[0]) is bytes:
            return b"".join(lines)  # type: ignore[arg-type]
        return "".join(lines).encode("utf-8", "backslashreplace")  # type: ignore[arg-type]
    except TypeError:
        return b"".join([each if type(each) is bytes else _encoded([each]) for each in lines])


class FileOutput(_Descriptor):
    """Opened with the first line; created with the permissions that the umask leaves."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._fd = -1
        self._is: tuple[int, int] = 0, 0
        self._most = BATCH

    def write(self, items: Sequence[Line], stopping: Callable[[], bool], /) -> int:
        """As ``Output``; what the reader of a pipe has not taken when it goes waits for the next one. Raises OSError."""
        rest = items
        while True:
            try:
                fd = self._current(stopping)
            except OSError:
                if rest is items:
                    raise
                return len(rest)  # stopping, and no other reader comes: those before are written
            try:
                return self._put(fd, rest, self._most, stopping)
            except BrokenPipeError:
                self.close()
                rest = rest[self._done :]

    def _current(self, stopping: Callable[[], bool]) -> int:
        if self._fd >= 0:
            try:
                there = os.stat(self.path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == self._is:
                return self._fd
            self.close()
        self._fd = self._opened(stopping)
        opened = os.fstat(self._fd)
        self._is = opened.st_dev, opened.st_ino
        self._most = BATCH if stat.S_ISREG(opened.st_mode) else PIPE
        return self._fd

    def _opened(self, stopping: Callable[[], bool]) -> int:
        told = False
        while True:
            try:
                return os.open(self.path, FLAGS, 0o666)
            except OSError as error:
                if error.errno != errno.ENXIO:  # a pipe without a reader
                    raise
            if stopping():
                raise OSError(errno.ENXIO, "it is a pipe that nobody reads")
            if not told:
                told = True
                log.warning(
                    "%s is a pipe that nobody reads: lines wait for a reader, as many as there is room for", self.path
                )
            select.select([], [], [], AGAIN)

    def reopen(self) -> None:
        """The next line opens it."""
        self._is = 0, 0

    def close(self) -> None:
        """It is opened again when there is a line."""
        fd, self._fd = self._fd, -1
        self._torn = False  # of another file
        if fd >= 0:
            os.close(fd)

    def after_fork(self) -> None:
        """The descriptor is the child's as well: both append."""


class StreamOutput(_Descriptor):
    """The standard output, or the one for errors, as the program has it at the moment."""

    def __init__(self, which: Literal["stdout", "stderr"]) -> None:
        super().__init__()
        self._which = which

    def write(self, items: Sequence[Line], stopping: Callable[[], bool], /) -> int:
        """As ``Output``. Raises OSError, and ValueError when the program has closed it."""
        stream = sys.__stdout__ if self._which == "stdout" else sys.__stderr__
        if stream is None:
            raise OSError(f"this program has no {self._which}")
        try:
            return self._put(stream.fileno(), items, PIPE, stopping)
        except BrokenPipeError as error:
            raise LinesLostError(error, len(items) - self._done) from error

    def reopen(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """It is the program's."""

    def after_fork(self) -> None:
        """It is the child's as well."""
