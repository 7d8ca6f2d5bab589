"""What changes in folders, told by Linux's inotify: who waits for it sleeps until something has.

Straight by the C library's functions, so that nothing has to be installed and nothing wakes up in between (watchfiles looks
every so many milliseconds whether the system has told it of anything).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator

Places = Callable[[], list[tuple[str, bool]]]
"""Folders, and whether what is below them counts, too."""

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
Q_OVERFLOW, IGNORED, ONLYDIR, ISDIR = 0x4000, 0x8000, 0x1000000, 0x40000000
_ASKED = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF | ONLYDIR
_OTHER_FOLDERS = ISDIR | Q_OVERFLOW | IGNORED | MOVE_SELF
"""After these there may be other folders to watch."""
_HEAD = struct.Struct("iIII")
QUIET_MS, TURNS = 20, 3
"""A batch of changes is told once: when nothing more has come for so long, or after so many times that."""


class Inotify:
    """Watches the folders of ``places``, asked again when folders come or go (``stale``), and those where links in them lead.
    Raises OSError: the system has no inotify, or no watches or descriptors left. Not for several threads, but for ``wake``."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._descriptors: list[int] = []
        self._lock = threading.Lock()  # between ``wake`` and ``close``
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._add: Callable[[int, bytes, int], int] = libc.inotify_add_watch
            self._remove: Callable[[int, int], int] = libc.inotify_rm_watch
            begin: Callable[[int], int] = libc.inotify_init1
        except AttributeError as error:
            raise OSError(errno.ENOSYS, "the C library has no inotify") from error
        self.stale = True
        self._watched: set[int] = set()
        try:
            self._fd = _checked(begin(os.O_CLOEXEC | os.O_NONBLOCK))
            self._descriptors.append(self._fd)
            self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._descriptors += (self._woken, self._wake)
            self._poll = select.poll()
            for each in (self._fd, self._woken):
                self._poll.register(each, select.POLLIN)
            self._watch()
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float) -> bool:
        """Returns True when something has changed, False after ``seconds`` or when woken."""
        if self.stale:
            self._watch()
        if not self._poll.poll(seconds * 1000.0) or not self._read():
            return False
        for _ in range(TURNS):
            if not self._poll.poll(QUIET_MS) or not self._read():
                break
        return True

    def wake(self) -> None:
        """End the waiting, now and from then on. From any thread."""
        with self._lock:
            if self._descriptors:
                with contextlib.suppress(BlockingIOError):  # it is full: it wakes
                    os.write(self._wake, b"x")

    def close(self) -> None:
        """Watch nothing any more."""
        with self._lock:
            self._close()

    def after_fork(self) -> None:
        """In a forked child, where its thread does not exist: close what was inherited. The parent's stay open."""
        self._lock = threading.Lock()  # the thread may have held it
        self._close()

    def _close(self) -> None:
        while self._descriptors:
            os.close(
                self._descriptors.pop()
            )  # taken first: a fork in between leaves one open, and closes none of another's

    def _read(self) -> bool:
        """Take what there is; returns whether there was anything that counts: what a folder told before its watch was removed,
        and that it was, does not."""
        found = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fd, 1 << 16):
                at = 0
                while at < len(data):
                    watch, mask, _, length = _HEAD.unpack_from(data, at)
                    at += _HEAD.size + length
                    if watch in self._watched or mask & Q_OVERFLOW:
                        found = True
                        self.stale = self.stale or bool(mask & _OTHER_FOLDERS)
        return found

    def _watch(self) -> None:
        """All folders that are there now, and no others: a folder that is moved away takes its watch along, and so does what is
        below it, which nothing is told of. One that is watched already is not watched twice."""
        self.stale = False
        before, self._watched = self._watched, set()
        for root, below in self._places():
            for folder in _folders(root) if below else _with_links(root, _entries(root)):
                try:
                    self._watched.add(_checked(self._add(self._fd, os.fsencode(folder), _ASKED)))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                        raise
                    self.stale = self.stale or folder == root  # gone meanwhile: asked for again with the next look
        for watch in before - self._watched:
            self._remove(self._fd, watch)  # it fails for a folder that was removed, whose watch went with it


def _folders(root: str) -> Iterator[str]:
    """``root`` (it may not be there), what is below it, and the folders where links lead."""
    yield root
    for folder, inner, files in os.walk(root):
        yield from _with_links(folder, [os.path.join(folder, name) for name in (*inner, *files)])


def _with_links(folder: str, entries: list[str]) -> Iterator[str]:
    """``folder``, and where those of its entries lead that are links: the folder, or what holds the file."""
    yield folder
    for entry in entries:
        if os.path.islink(entry):
            target = os.path.realpath(entry)
            yield target if os.path.isdir(target) else os.path.dirname(target)


def _entries(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder)]
    except OSError:  # gone, or not to be read: so is the watch
        return []


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
