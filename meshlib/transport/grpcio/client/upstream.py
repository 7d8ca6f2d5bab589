"""A channel to one endpoint, for one set of settings and (asyncio) one event loop, shared by everything that calls it."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.clock import SystemClock
from meshlib.transport.grpcio.client import core_unary
from meshlib.transport.grpcio.client.loops import soon_on
from meshlib.transport.upstream.followed import Followed

if TYPE_CHECKING:
    import asyncio

    from meshlib.transport.grpcio.client.core_unary import BindingCall
    from meshlib.transport.grpcio.client.method import Method, MethodKey
    from meshlib.transport.grpcio.client.mutual import LocalTls
    from meshlib.transport.grpcio.contracts import EndpointChannel

MAX_METHODS = 1024

# stubs of newer grpcio register their methods with the channel, which makes their calls a little faster
_REGISTERS = "_registered_method" in inspect.signature(grpc.Channel.unary_unary).parameters
_REGISTERED = {"_registered_method": True} if _REGISTERS else {}

CLOSING = 1.0
"""Seconds that ``mesh.close`` waits for a channel's calls to end."""

CHANNEL_CLOSED = "Channel closed!"
"""grpcio's own words."""

FILES_CHECKED_EVERY = 1.0
"""Seconds between looks at a channel's certificate files while calls use it."""

UNWATCHED = 0.5
"""Seconds after which grpcio's thread that watches a channel has noticed that nobody is subscribed any more."""


_closing: set[asyncio.Task[None]] = set()


made_channels: weakref.WeakSet[Upstream] = weakref.WeakSet()


class Upstream:
    """A channel to one endpoint. ``calls`` holds its multicallables by the mesh's own methods. ``loop`` is None for
    threads. ``left``: how many more calls it may carry (maxRequestsPerConnection), None: any number; ``until``: by the
    mesh's clock, when it is too old (maxConnectionDuration); ``tls``: the certificate files that it was
    made with; ``local``: its mTLS of the mesh. ``under_way``: calls of gRPC core's binding on the loop, which
    grpcio's own closing does not know."""

    __slots__ = (
        "__weakref__",
        "_check_files_at",
        "_credentials",
        "calls",
        "channel",
        "ended",
        "left",
        "local",
        "loop",
        "pid",
        "subscribed",
        "tls",
        "under_way",
        "until",
        "watching",
        "worn",
    )

    def __init__(
        self, channel: EndpointChannel, loop: asyncio.AbstractEventLoop | None, left: int | None, until: float | None
    ) -> None:
        self.channel = channel
        self.calls: dict[tuple[MethodKey, bytes], Any] = {}  # grpcio's multicallables, of the channel's own runtime
        self.under_way: set[BindingCall] = set()
        self.loop = loop
        self.left = left
        self.until = until
        self.worn = left is not None or until is not None  # whether that has to be looked at
        self.tls: Followed[grpc.ChannelCredentials] | None = None
        self.local: LocalTls | None = None  # mTLS of the mesh
        self.pid = os.getpid()
        self.watching: Callable[[], None] | None = None  # ends what watches its connectivity
        self.ended: list[Callable[[], None]] = []
        self.subscribed = False  # whether grpcio has had a thread that watches its connectivity
        made_channels.add(self)

    def follow(
        self, files: Followed[grpc.ChannelCredentials], credentials: grpc.ChannelCredentials, now: float
    ) -> None:
        """The channel is for calls as long as its credentials are those of the files."""
        self.tls, self._credentials, self._check_files_at = files, credentials, now + FILES_CHECKED_EVERY
        self.worn = True

    def over_mutual(self, local: LocalTls) -> None:
        """The channel connects through mTLS of the mesh; it is for calls as long as our certificate and roots do not change."""
        self.local = local
        self.ended.append(local.drop)
        self.worn = True

    def usable(self, now: float) -> bool:
        """Whether it may carry one more call; counts it."""
        if self.pid != os.getpid():
            return False
        if self.until is not None and now >= self.until:
            return False
        if self.tls is not None and now >= self._check_files_at:
            self._check_files_at = now + FILES_CHECKED_EVERY
            if self.tls.current() is not self._credentials:
                return False
        if self.local is not None and not self.local.fresh:
            return False
        if self.left is not None:
            if self.left <= 0:
                return False
            self.left -= 1
        return True

    def multicallable(self, method: Method[Any, Any], target: bytes) -> object:
        """grpcio's multicallable for a method of the mesh's channel, with the path that a rule may have rewritten."""
        if len(self.calls) >= MAX_METHODS:
            self.calls.clear()
        make: Callable[..., object] = getattr(self.channel, method.kind)  # the messages it gets are serialized already
        made = make(target.decode("latin-1"), None, method.deserialize, **_REGISTERED)
        if method.kind == "unary_unary":
            of_core: Callable[..., object] = core_unary.for_threads if self.loop is None else core_unary.for_loops
            made = of_core(self.channel, target, method.deserialize, made)
        self.calls[method.key, target] = made
        return made

    def drop(self) -> None:
        """No new calls: the connection closes when those under way have ended and nothing refers to the channel."""
        watching, self.watching = self.watching, None
        if watching is not None:
            watching()
        ended, self.ended = self.ended, []
        for end in ended:
            end()
        self.calls.clear()

    def forget(self) -> None:
        """``drop``, from any thread."""
        if self.loop is None or self.loop.is_closed():
            self.drop()
        else:
            soon_on(self.loop, self.drop)

    def __del__(self) -> None:
        # of a mesh that was dropped: what watches the channel must not stay for ever
        if self.pid == os.getpid() and not sys.is_finalizing():
            self.drop()

    def close(self) -> None:
        """Break everything off."""
        self.drop()
        if self.pid != os.getpid():
            return
        if self.loop is None:
            # grpcio's close waits for every call to be told of its end, and may wait for ever (see ``stream_run.unblock``)
            closing_thread = threading.Thread(target=self._close_channel, name="meshlib-grpc-close", daemon=True)
            closing_thread.start()
            if not self.subscribed:
                closing_thread.join(CLOSING)
        else:
            soon_on(self.loop, self._close_on_loop)

    def _close_on_loop(self) -> None:
        for call in list(self.under_way):
            call.cancel(CHANNEL_CLOSED)
        assert self.loop is not None
        task = self.loop.create_task(self.channel.close())
        _closing.add(task)  # a loop's own reference to its tasks is a weak one
        task.add_done_callback(_closing.discard)

    def _close_channel(self) -> None:
        if self.subscribed:  # grpcio's watching thread looks at the channel once more, and must not find it closed
            SystemClock.sleep(UNWATCHED)
        close: Callable[[], object] = self.channel.close
        close()
