"""Sockets to listen on that nobody but this user can connect to.

A unix socket is born with mode 0600, and listens once it has it: before that, connections are refused. One that a dead process
has left is replaced; one that is alive is not, and neither is a file that is no socket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator

from meshlib.admin.address import LONGEST_PATH, TcpAddress
from meshlib.clock import rest
from meshlib.problems import MeshError
from meshlib.transport.upstream.forked import close_copy

BACKLOG = 128
LOOKS, BETWEEN = 50, 0.02
"""How often, and after how many seconds, a folder that another process is making a socket in is looked at again."""


class Taken(MeshError):
    """Somebody listens there. ``pid``: who, 0 when it is not known."""

    def __init__(self, text: str, pid: int) -> None:
        super().__init__(text)
        self.pid = pid


class Listener:
    """A socket that listens; ``path`` is its file, "" of TCP; ``shown`` is how to reach it."""

    __slots__ = ("_file", "path", "shown", "socket")

    def __init__(self, made: socket.socket, path: str, shown: str) -> None:
        self.socket = made
        self.path = path
        self.shown = shown
        found = os.lstat(path) if path else None
        self._file = None if found is None else (found.st_dev, found.st_ino)

    def close(self) -> None:
        """Listen no more; the file goes, if it is still this socket's."""
        self.socket.close()
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._file:
                os.unlink(self.path)

    def abandon(self) -> None:
        """In a forked child: the parent goes on listening."""
        close_copy(self.socket)


def listen_unix(path: str) -> Listener:
    """Listen at ``path``. Raises ``Taken`` when a live process does, else ``MeshError`` saying what is in the way."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise MeshError(
            f"the admin socket {path} cannot be made: its path is longer than {LONGEST_PATH} bytes; choose a shorter one"
        )
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _folder_locked(os.path.dirname(path) or "."):
            _clear(path)
            with contextlib.suppress(OSError):  # where the system takes it: the file is born with this mode
                os.fchmod(made.fileno(), 0o600)
            made.bind(path)
            os.chmod(path, 0o600)
            made.listen(BACKLOG)
        made.setblocking(False)
        return Listener(made, path, f"unix:{path}")
    except OSError as error:
        made.close()
        raise MeshError(f"the admin socket {path} cannot be made: {_why(error, path)}") from error
    except BaseException:
        made.close()
        raise


def listen_tcp(address: TcpAddress) -> Listener:
    """Listen at a loopback address. Raises ``Taken`` and ``MeshError``."""
    made = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address.host, address.port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise Taken(
                f"the admin address {address} is taken: something listens on port {address.port} already "
                f"(ss -ltnp 'sport = :{address.port}' shows what); choose another port, or admin='unix', where each process "
                "has its own socket",
                0,
            ) from error
        raise MeshError(
            f"cannot listen on the admin address {address}: {error.strerror}; choose another, or admin='unix'"
        ) from error
    return Listener(made, "", str(TcpAddress(address.host, made.getsockname()[1])))


def peer_pid(connected: socket.socket) -> int:
    """Who listens at the other end of a connected unix socket; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        if sys.platform == "linux":
            return int(struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
        if sys.platform == "darwin":
            return int(connected.getsockopt(0, 2))  # SOL_LOCAL, LOCAL_PEERPID
    return 0


def _clear(path: str) -> None:
    """Remove what a dead process has left at ``path``."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise MeshError(
            f"the admin socket {path} cannot be made: there is a file of that name which is not a socket; move it away, or "
            "choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # nobody listens any more
            return
        except FileNotFoundError:
            return
        except (BlockingIOError, TimeoutError):
            pid = 0  # its line is full: somebody listens
        else:
            pid = peer_pid(probe)
    mine = pid == os.getpid()
    who = "another mesh of this process" if mine else f"process {pid}" if pid else "another process"
    raise Taken(
        f"the admin socket {path} is taken: {who} listens there; write {{pid}} into the path "
        f"(unix:{_with_pid(path)}), or admin='unix', where each process has its own",
        pid,
    )


def _with_pid(path: str) -> str:
    stem, dot, ending = path.rpartition(".")
    return f"{stem}-{{pid}}.{ending}" if dot and "/" not in ending else f"{path}-{{pid}}"


def _why(error: OSError, path: str) -> str:
    folder = os.path.dirname(path) or "."
    if isinstance(error, PermissionError):
        return f"this user (uid {os.geteuid()}) may not write in {folder}; choose a folder of its own, or admin='unix'"
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {folder}; make it, or choose another"
    return f"{error.strerror or error}; choose another path, or admin='unix'"


@contextlib.contextmanager
def _folder_locked(folder: str) -> Iterator[None]:
    """One process at a time looks whether a socket is alive and puts its own in its place. Whoever holds the lock for long is
    not one of ours: it is done without."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield
        return
    try:
        for _ in range(LOOKS):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                rest(BETWEEN)
        yield
    finally:
        os.close(handle)
