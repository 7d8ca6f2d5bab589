"""The folder of a user in which running processes are found by their number: ``$XDG_RUNTIME_DIR/meshlib``.

``PID.sock`` is the admin socket of a process, or a link to the one that it was given; ``PID.tcp`` has its loopback address.
A second mesh of a process is ``PID-2``, and so on.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping

from meshlib.problems import MeshError

MOST = 16
"""Meshes of one process that are found."""
_ENTRY = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,2}))?\.(sock|tcp)")


def folders(environ: Mapping[str, str], uid: int) -> list[str]:
    """Where it may be, for a user; the first whose parent there is, is the one."""
    given = environ.get("XDG_RUNTIME_DIR", "")
    found = [given] if os.path.isabs(given) else []
    found = [os.path.join(parent, "meshlib") for parent in (*found, f"/run/user/{uid}")]
    return list(dict.fromkeys([*found, f"/tmp/meshlib-{uid}"]))


def own_folder() -> str:
    """This user's, made if need be: nobody else may enter it. Raises ``MeshError`` when there can be none."""
    uid = os.geteuid()
    for folder in folders(os.environ, uid):
        parent = os.path.dirname(folder)
        if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
            continue
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        found = os.lstat(folder)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077:
            return folder
        raise MeshError(
            f"{folder} is not a folder of this user (uid {uid}) alone, so no admin socket is made in it: remove it, or say "
            "where the socket is to be (admin='unix:/run/app/admin-{pid}.sock')"
        )
    raise MeshError(
        "there is no runtime folder for an admin socket: set XDG_RUNTIME_DIR, or say where the socket is to be "
        "(admin='unix:/run/app/admin-{pid}.sock')"
    )


def name(folder: str, pid: int, number: int, kind: str) -> str:
    """The entry of a process's mesh ``number`` (from 1); ``kind`` is "sock" or "tcp"."""
    return os.path.join(folder, f"{pid}{'' if number == 1 else f'-{number}'}.{kind}")


def entries(folder: str) -> Iterator[tuple[int, str]]:
    """(PID, path) of what is in a folder, by name; nothing when there is no folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    found = []
    for each in names:
        match = _ENTRY.fullmatch(each)
        if match is not None:
            found.append((int(match[1]), int(match[2] or 1), each))
    for pid, _, each in sorted(found):
        yield pid, os.path.join(folder, each)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid < 1 << 31
    return True


def sweep(folder: str) -> None:
    """Remove what processes that are gone have left. Somebody may listen although there is no such process here: in a container
    that shares the folder."""
    for pid, path in entries(folder):
        if not is_alive(pid) and not is_heard(path):
            with contextlib.suppress(OSError):
                os.unlink(path)


def sweep_like(path: str) -> None:
    """The same for sockets at a path with ``{pid}`` in its last part: children that end without notice leave theirs."""
    folder, last = os.path.split(path)
    before, mark, after = last.partition("{pid}")
    if not mark or "{pid}" in after:
        return
    with contextlib.suppress(OSError):
        for each in os.listdir(folder):
            digits = each[len(before) : len(each) - len(after)]
            its = os.path.join(folder, each)
            if each != f"{before}{digits}{after}" or not (digits.isascii() and digits.isdecimal()):
                continue
            if stat.S_ISSOCK(os.lstat(its).st_mode) and not is_alive(int(digits)) and not _is_heard_socket(its):
                os.unlink(its)


def is_heard(path: str) -> bool:
    """Whether somebody listens at the socket that is the entry of a process."""
    return path.endswith(".sock") and _is_heard_socket(path)


def _is_heard_socket(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its line is full
        except OSError:
            return False
    return True


def announce(pid: int, target: str, kind: str) -> str:
    """Have a process be found that listens elsewhere: at the socket ``target`` (kind "sock"), or at the address ``target``
    ("tcp"). Returns the entry, "" when there can be none: nothing but finding it by number needs it."""
    with contextlib.suppress(OSError, MeshError):
        folder = own_folder()
        sweep(folder)
        for number in range(1, MOST + 1):
            entry = name(folder, pid, number, kind)
            if entry in _announced:
                continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry)  # of an earlier process with this number
            if kind == "sock":
                os.symlink(target, entry)
            else:
                with open(os.open(entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(target)
            _announced.add(entry)
            return entry
    return ""


def claim(entry: str) -> None:
    """A socket of this process in the folder is in use."""
    _announced.add(entry)


def withdraw(entry: str) -> None:
    """The opposite of ``announce`` and ``claim``."""
    _announced.discard(entry)
    with contextlib.suppress(OSError):
        os.unlink(entry)


_announced: set[str] = set()
"""The entries of this process."""
