"""The end of a socket that a thread accepts connections at."""

from __future__ import annotations

import contextlib
import socket
import threading


def stop_accepting(sock: socket.socket, thread: threading.Thread) -> None:
    """Nobody is accepted any more, and the port is free. The number of the socket is given to the next that is opened: a thread
    that is still about to accept there would have the connections of another server, so that it ends first."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    thread.join(60)
    sock.close()
