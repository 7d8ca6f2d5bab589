"""What runs this program beside plain threads and asyncio: gevent (works when it has patched before meshlib is imported),
eventlet and trio (do not, and are told so).

gevent's sockets never block in the kernel: they wait in gevent's hub, which runs other greenlets meanwhile. So kernel timeouts
have no effect on them, and nothing here may wait in the C library when a socket is gevent's.
"""

from __future__ import annotations

import asyncio
import importlib
import select
import socket
import sys
from typing import Any, Protocol

from meshlib.problems import MeshError


class Poll(Protocol):
    """``select.poll``, or what gevent has for it."""

    def register(self, fd: int | socket.socket, eventmask: int, /) -> None: ...
    def modify(self, fd: int | socket.socket, eventmask: int, /) -> None: ...
    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]: ...


def is_gevents(sock: socket.socket) -> bool:
    """Whether gevent made it."""
    return type(sock).__module__.startswith("gevent")


def waiting_poll(sock: socket.socket) -> Poll:
    """A ``select.poll`` to wait with, which lets other greenlets run if the socket is gevent's."""
    if is_gevents(sock):
        made: Poll = importlib.import_module("gevent.select").poll()
        return made
    return select.poll()


def instant_poll(sock: socket.socket) -> Poll:
    """A ``select.poll`` to look with, never to wait: gevent's would go through its hub for that."""
    if is_gevents(sock):
        made: Poll = importlib.import_module("gevent.monkey").get_original("select", "poll")()
        return made
    return select.poll()


def check_sockets() -> None:
    """Raise ``MeshError`` where sockets are eventlet's."""
    if socket.socket.__module__.startswith("eventlet"):
        raise MeshError(
            "the mesh's own connections do not work on sockets that eventlet has patched: use threads, asyncio or gevent "
            "(monkey.patch_all() before meshlib is imported), or give an inner= transport that works with eventlet"
        )


def asyncio_loop() -> asyncio.AbstractEventLoop:
    """The running loop. Raises ``MeshError`` where there is none, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        sniffio: Any = sys.modules.get("sniffio")
        try:
            found = "without it" if sniffio is None else f"on {sniffio.current_async_library()}"
        except sniffio.AsyncLibraryNotFoundError:
            found = "without it"
        raise MeshError(
            f"async clients of the mesh run on asyncio, and this call was made {found}: run the program on asyncio "
            "(anyio.run(main, backend='asyncio')), or call mesh.client() from a thread (trio.to_thread.run_sync)"
        ) from error
