"""The end of a socket that a thread accepts connections at."""

from __future__ import annotations

import contextlib
import socket
import threading


def stop_accepting(sock: socket.socket, thread: threading.Thread, seconds: float = 60.0) -> None:
    """Nobody is accepted any more, and the port is free. The number of the socket is given to the next that is opened: a thread
    that is still about to accept there would have the connections of another server, so that it ends first: one that has not
    after so many seconds is a failure."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    thread.join(seconds)
    assert not thread.is_alive(), (
        f"{thread.name} has not ended within {seconds:g} s: it still accepts, though its socket {sock!r} was shut down, or has "
        "another reason not to end"
    )
    sock.close()
