"""Finding the admin endpoint of a running process, and asking it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

from meshlib.admin.address import Address, TcpAddress, UnixAddress, parse_address
from meshlib.admin.runtime_folder import entries, folders, is_alive
from meshlib.problems import ConfigError, MeshError

SECONDS = 10.0
MOST_BYTES = 256 * 1024 * 1024
HOW = "start it with MESHLIB_ADMIN=unix (Mesh.from_env()) or with Mesh(..., admin='unix')"


class Gone(MeshError):
    """Nobody listens there (any more)."""


class Attached:
    """The admin endpoint at an address. ``pid``: of which process, 0 when it was given by its address. ``patience``: seconds
    that it has."""

    def __init__(self, address: Address, pid: int = 0, patience: float | None = None) -> None:
        self.address = address
        self.pid = pid
        self._patience = SECONDS if patience is None else patience

    def __str__(self) -> str:
        return f"process {self.pid} ({self.address})" if self.pid else str(self.address)

    def get(self, path: str) -> bytes:
        """The page. Raises ``Gone`` when nothing listens there, else ``MeshError``."""
        status, _, body = self.ask("GET", path)
        if status != 200:
            said = body[:500].decode("utf-8", "replace").strip()
            raise MeshError(f"{self} responded to {path.partition('?')[0]} with {status}: {said}")
        return body

    def ask(self, method: str, path: str) -> tuple[int, str, bytes]:
        """Status, kind (Content-Type) and body of a page, whatever the status. Raises ``Gone`` when nothing listens there, else
        ``MeshError``."""
        connection = _Connection(self.address, self._patience)
        try:
            connection.request(method, path, headers={"Host": "localhost"})
            response = connection.getresponse()
            body = response.read(MOST_BYTES)
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError) as error:
            raise Gone(f"nothing listens at {self}: the process has ended, or closed its mesh") from error
        except PermissionError as error:
            raise MeshError(
                f"{self} belongs to another user: ask as that user, or as root ({error.strerror})"
            ) from error
        except TimeoutError as error:
            raise MeshError(f"{self} did not respond within {self._patience:g} s; it may be stopped") from error
        except (OSError, HTTPException) as error:
            raise MeshError(f"{self} could not be asked: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        return response.status, response.headers.get("content-type", ""), body

    def json(self, path: str) -> Any:
        """The page's value."""
        body = self.get(path)
        try:
            return json.loads(body)
        except ValueError as error:
            raise MeshError(f"{self} is not an admin endpoint of meshlib: its {path} is not JSON") from error


def attach(target: str | None, environ: Mapping[str, str] = os.environ) -> Attached:
    """What a person calls ``target``: the number of a process, a socket (with or without ``unix:``), a loopback address;
    None: the only process of this user that has an endpoint. Raises ``MeshError`` saying what there is, and what to do."""
    if target is None:
        return _only(environ)
    if target.isascii() and target.isdecimal():
        return of_process(int(target), environ)
    if "/" in target and not target.startswith("unix:"):
        target = f"unix:{target}"
    return Attached(parse_address(target, "--attach"))


def is_target(text: str) -> bool:
    """Whether a word names a process or an address, not a host or a route."""
    if (text.isascii() and text.isdecimal()) or text.startswith(("unix:", "/", "./", "../")):
        return True
    try:
        return isinstance(parse_address(text), TcpAddress)
    except ConfigError:
        return False


def running(environ: Mapping[str, str] = os.environ) -> list[tuple[int, Address]]:
    """Processes of this user that can be asked, and where, by their numbers."""
    found: list[tuple[int, Address]] = []
    for folder in folders(environ, os.geteuid()):
        found += [(pid, address) for pid, path in entries(folder) if is_alive(pid) and (address := _entry(path))]
    return sorted(dict.fromkeys(found), key=lambda each: each[0])


def of_process(pid: int, environ: Mapping[str, str] = os.environ) -> Attached:
    """The endpoint of a process, the first when it has several. Raises ``MeshError`` when there is none."""
    if not is_alive(pid):
        raise Gone(f"there is no process {pid}")
    its = _environment(pid)
    for address in [*_entries_of(pid, its, environ), *_said(pid, its)]:
        found = Attached(address, pid)
        try:
            answers = found.json("/server_info").get("pid")
        except Gone:
            continue
        if answers == pid:
            return found
    raise MeshError(f"process {pid}{_shown(pid)} has no admin endpoint{_children(pid, environ)}: {HOW}")


def _only(environ: Mapping[str, str]) -> Attached:
    found = running(environ)
    pids = list(dict.fromkeys(pid for pid, _ in found))
    if len(pids) == 1:
        return Attached(found[0][1], found[0][0])
    if not found:
        raise MeshError(f"no process of this user has an admin endpoint that can be found: {HOW}, or give its address")
    raise MeshError(
        "several processes have an admin endpoint; give one: " + ", ".join(f"{pid}{_shown(pid)}" for pid in pids)
    )


def _entries_of(pid: int, its: Mapping[str, str], environ: Mapping[str, str]) -> list[Address]:
    """As the process's own environment, or ours, says where its runtime folder is."""
    found: list[Address] = []
    for folder in dict.fromkeys([*folders(its, _owner(pid)), *folders(environ, _owner(pid))]):
        found += [address for owner, path in entries(folder) if owner == pid and (address := _entry(path))]
    return list(dict.fromkeys(found))


def _entry(path: str) -> Address | None:
    if path.endswith(".sock"):
        return UnixAddress(path)
    try:
        with open(path) as file:
            found = parse_address(file.read(100))
    except (OSError, ValueError, ConfigError):
        return None
    return found if isinstance(found, TcpAddress) else None


def _said(pid: int, its: Mapping[str, str]) -> list[Address]:
    """What MESHLIB_ADMIN says in the process's environment."""
    try:
        found = parse_address(its.get("MESHLIB_ADMIN", ""))
    except ConfigError:
        return []
    if isinstance(found, UnixAddress):
        if not found.path:
            return []
        try:
            return [UnixAddress(os.path.join(os.readlink(f"/proc/{pid}/cwd"), found.of(pid)))]
        except OSError:
            return [UnixAddress(found.of(pid))] if os.path.isabs(found.path) else []
    return [found] if found.port else []


def _environment(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return {}
    return dict(pair for each in text.split("\0") if len(pair := each.partition("=")[::2]) == 2)


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return os.geteuid()


def _shown(pid: int) -> str:
    """The program, without its arguments: they may have secrets."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return f" ({file.read().strip()})"
    except OSError:
        return ""


def _children(pid: int, environ: Mapping[str, str]) -> str:
    found = [str(child) for child, _ in running(environ) if _parent(child) == pid]
    return f", but its children have ({', '.join(dict.fromkeys(found))})" if found else ""


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


class _Connection(HTTPConnection):
    def __init__(self, address: Address, patience: float) -> None:
        host, port = ("localhost", 80) if isinstance(address, UnixAddress) else (address.host, address.port)
        super().__init__(host, port, timeout=patience)
        self._address = address
        self._patience = patience

    def connect(self) -> None:
        if not isinstance(self._address, UnixAddress):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience)
        self.sock.connect(self._address.path)
