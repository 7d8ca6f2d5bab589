"""mTLS of the mesh for channels of gRPC core, which can check one DNS name of a server's certificate and nothing else.

So gRPC core makes no TLS here: it connects to a unix socket of ours, in a directory that only this user can enter, and for
each of its connections one to the endpoint is made as for HTTP (``upstream/mutual.py``): our certificate is shown, and who
the server is (its SPIFFE ID, its root, every rule of SPIFFE) is judged before a byte is sent. Then the two are joined
(``upstream/splice.py``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import shutil
import socket
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.engine.outcome import Outcome
from meshlib.identity.servers import Standing
from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.mutual import vouched_of
from meshlib.transport.upstream.socket_directory import socket_directory
from meshlib.transport.upstream.splice import Splice, Splicer
from meshlib.transport.upstream.threads_dial import Dialler
from meshlib.transport.upstream.tls_socket import AnySocket, ssl_object

if TYPE_CHECKING:
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.servers import Vouched
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.upstream.target import Target

log = logging.getLogger("meshlib.grpc")

LOOK = 15.0
"""Seconds between looks at open connections: with ``identity.servers.GRACE`` less than 60."""
LINGER = 10.0
"""Seconds that a socket stays whose channel was replaced before it had connected: a call may be about to."""
PROTOCOLS = ("h2",)


class LocalTls:
    """What the channel to one endpoint connects to. ``problem``: why its last connection could not be made, "" when it
    was."""

    __slots__ = ("__weakref__", "_listener", "_mutual", "_target", "accepted", "made_with", "path", "pid", "problem")

    def __init__(
        self, mutual: Mutual, target: Target, path: str, listener: socket.socket, made_with: Credentials | None
    ) -> None:
        self._mutual = mutual
        self._target = target
        self._listener = listener
        self.path = path
        self.made_with = made_with
        self.accepted = False
        self.problem = ""
        self.pid = os.getpid()

    @property
    def fresh(self) -> bool:
        """Whether its connections are made with the newest certificate and roots: a channel for new calls."""
        return self._mutual.latest() is self.made_with

    def accept(self, _mask: int) -> None:
        """gRPC core has connected. In the splicer's thread."""
        try:
            inner, _ = self._listener.accept()
        except OSError:
            return
        self.accepted = True
        threading.Thread(target=self._dial, args=(inner,), name="meshlib-grpc-dial", daemon=True).start()

    def _dial(self, inner: socket.socket) -> None:
        target = self._target
        try:
            found = self._mutual.dial(target)
        except TimeoutError:
            self.problem = f"no connection to {target} within {target.connect_timeout:g} s"
            inner.close()
            return
        except BaseException as error:
            self.problem = f"no connection to {target}: {type(error).__name__}: {error}"
            inner.close()
            raise
        if isinstance(found, Outcome):
            self.problem = found.detail
            inner.close()
            return
        self.problem = ""
        inner.setblocking(False)
        found.setblocking(False)
        self._mutual.join(inner, found, self)

    def over(self, spoke: bool) -> None:
        """A connection has ended; ``spoke``: the server had said something."""
        if not spoke:
            self.problem = (
                f"{self._target} closed the connection after the TLS handshake without a word: servers that do not trust the "
                "client's certificate do so, with TLS 1.3"
            )

    def drop(self) -> None:
        """Its channel is not for new calls any more. Connections that are open go on."""
        self._mutual.drop(self)

    def close_listener(self) -> None:
        """In the splicer's thread."""
        self._mutual.splicer.unwatch(self._listener)
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def abandon(self) -> None:
        """In a forked child."""
        close_copy(self._listener)


class Mutual:
    """Of one mesh."""

    def __init__(self, core: MeshCore) -> None:
        self._core = weakref.ref(core)
        self._directory = ""
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.splicer = Splicer("meshlib-grpc-tls")
        self._dialler = Dialler(core.clock.monotonic, core.names)
        self._open: dict[Splice, Vouched | None] = {}
        self._locals: weakref.WeakSet[LocalTls] = weakref.WeakSet()
        weakref.finalize(core, self.close).atexit = False

    def latest(self) -> Credentials | None:
        """The newest credentials that are known; nothing is looked at."""
        core = self._core()
        return None if core is None or core.identity is None else core.identity.latest

    def listen(self, target: Target) -> LocalTls:
        """For a new channel to ``target``. Raises ``MeshError``, OSError."""
        with self._lock:
            if not self._directory:
                self._directory = socket_directory()
                weakref.finalize(self, _remove, self._directory, os.getpid())
                self._look_later()
            path = os.path.join(self._directory, str(next(self._numbers)))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            listener.listen(16)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        made = LocalTls(self, target, path, listener, self.latest())
        self._locals.add(made)
        self.splicer.call(functools.partial(self.splicer.watch, listener, made.accept))
        return made

    def dial(self, target: Target) -> AnySocket | Outcome:
        """A connection to the endpoint whose server has been judged. Raises TimeoutError."""
        return self._dialler.dial(target, PROTOCOLS, target.connect_timeout)

    def join(self, inner: socket.socket, outer: AnySocket, local: LocalTls) -> None:
        """Let gRPC core and the endpoint speak. From any thread."""
        vouched = vouched_of(ssl_object(outer))

        def joined() -> None:
            over = functools.partial(self._over, box := [], local)
            splice = self.splicer.join(inner, outer, over)
            box.append(splice)
            if splice.ended:
                over()
            else:
                self._open[splice] = vouched

        self.splicer.call(joined)

    def _over(self, box: list[Splice], local: LocalTls) -> None:
        for splice in box:
            self._open.pop(splice, None)
            local.over(splice.other.spoke)

    def drop(self, local: LocalTls) -> None:
        """See ``LocalTls.drop``."""
        if local.pid != os.getpid():
            return
        close = functools.partial(self.splicer.call, local.close_listener)
        core = self._core()
        if local.accepted or core is None or core.closed:
            close()
        else:
            core.real_alarms.after(LINGER, close)

    def _look_later(self) -> None:
        core = self._core()
        if core is not None and not core.closed:
            core.alarms.after(LOOK, _weakly(self))

    def look(self) -> None:
        """Close connections that stand on certificates which are worth nothing any more."""
        core = self._core()
        if core is None:
            return
        if core.identity is not None:
            core.identity.current()
        for splice, vouched in list(self._open.items()):
            if vouched is not None and core.servers.standing(vouched) is Standing.CUT:
                self.splicer.call(splice.end)
        self._look_later()

    def close(self) -> None:
        """Break everything off."""
        self._dialler.close()
        for local in list(self._locals):
            if local.pid == os.getpid():
                self.splicer.call(local.close_listener)
        self.splicer.close()

    def after_fork(self) -> None:
        """In a forked child: sockets and thread are the parent's."""
        self._lock = threading.Lock()
        for local in list(self._locals):
            if local.pid != os.getpid():
                local.abandon()
        for sock in list(self._dialler.under_way):
            close_copy(sock)
        self._dialler.under_way = set()
        self._directory = ""
        self._open = {}
        self.splicer.after_fork()


def _weakly(mutual: Mutual) -> Callable[[], None]:
    found = weakref.ref(mutual)

    def look() -> None:
        here = found()
        if here is not None:
            here.look()

    return look


def _remove(directory: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)
