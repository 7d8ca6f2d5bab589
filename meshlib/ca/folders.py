"""Files that hold keys: written whole or not at all, readable by their owner alone, and one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.clock import Clock

SECRET = 0o600
PUBLIC = 0o644
OURS = 0o700
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PATIENCE = 10.0
"""Seconds that a writer waits for another one."""
LOOK = 0.05
LOCK = "lock"


class BadStore(MeshError, ValueError):
    """What is wrong with an authority on disk, or with what is asked of it: which file or folder, what, and what to do; never a
    byte of a key."""


def make_folder(folder: Path) -> None:
    """A new folder for us alone, whatever the umask; its parents as they are made usually."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(OURS)
    folder.chmod(OURS)


def write_new(file: Path, content: bytes, mode: int = PUBLIC) -> None:
    """A file that is not there yet, on the disk when this returns."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as opened:
        os.fchmod(descriptor, mode)
        opened.write(content)
        opened.flush()
        os.fsync(descriptor)


def replace(file: Path, content: bytes, mode: int = PUBLIC) -> None:
    """The file has its old content or the new, never a part of it, also when the machine stops meanwhile."""
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    write_new(beside, content, mode)
    beside.replace(file)
    settle(file.parent)


def settle(folder: Path) -> None:
    """What was renamed in this folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(file: Path) -> bytes:
    """A key. Raises ``BadStore`` when others than its owner may read or change it."""
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & OTHERS:
                raise BadStore(
                    f"{file} is a private key that others may read or change (mode {mode:04o}); chmod 600 {file}, and if "
                    "others may have read it, change the authority: meshlib ca rotate"
                )
            return opened.read()
    except OSError as error:
        raise BadStore(f"{file} cannot be read: {error.strerror}") from error


def require_ours(folder: Path) -> None:
    """Raises ``BadStore`` when others than its owner may look into this folder or change it."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & OTHERS:
        raise BadStore(
            f"{folder} holds private keys, and other users can enter it (mode {mode:04o}); chmod 700 {folder}"
        )


@contextlib.contextmanager
def locked(folder: Path, clock: Clock) -> Iterator[None]:
    """Nobody else writes meanwhile. The kernel takes the lock back from a process that dies. Raises ``BadStore`` after
    ``PATIENCE`` seconds."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET)
    try:
        until = clock.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() >= until:
                    raise BadStore(
                        f"{folder} is being written by another process (it holds {folder / LOCK}); wait for it to end, "
                        "then try again"
                    ) from None
            clock.sleep(LOOK)
        yield
    finally:
        os.close(descriptor)
