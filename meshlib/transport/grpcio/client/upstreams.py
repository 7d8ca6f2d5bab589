"""The channels to endpoints: one per endpoint, settings and (asyncio) event loop, shared by everything that calls it."""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from meshlib.clock import SystemClock
from meshlib.compiler.snapshot import split_authority
from meshlib.problems import MeshError
from meshlib.transport.grpcio.client import core_unary
from meshlib.transport.grpcio.client.loops import soon_on
from meshlib.transport.grpcio.client.unpatched import make_channel
from meshlib.transport.upstream.followed import Followed, UnusableFiles
from meshlib.transport.upstream.names import is_name
from meshlib.transport.upstream.tls import load_context

if TYPE_CHECKING:
    from meshlib.compiler.routes import TlsSettings
    from meshlib.engine.cluster import BoundCluster
    from meshlib.policy.endpoint import EndpointState
    from meshlib.transport.core.mesh_core import MeshCore

MAX_METHODS = 1024
FIRST_BACKOFF_MS = 100
LONGEST_BACKOFF_MS = 1000
"""Between attempts to reconnect. grpcio's own (1 s to 2 min) would keep an endpoint out long after it came back."""

CLOSING = 1.0
"""Seconds that ``mesh.close`` waits for a channel's calls to end."""

CHANNEL_CLOSED = "Channel closed!"
"""grpcio's own words."""

LOOK = 1.0
"""Seconds between looks at a channel's certificate files while calls use it."""

UNWATCHED = 0.5
"""Seconds after which grpcio's thread that watches a channel has noticed that nobody is subscribed any more."""


_closing: set[Any] = set()


class CannotConnect(MeshError):
    """What the policy asks of a connection cannot be had with grpcio, so none is made."""


class MeshGone(CannotConnect):
    """The mesh was closed meanwhile."""


class ChannelSettings:
    """What the caller said when it made its channel. Compared by identity; ``MeshCore`` keeps one object per content, so
    that channels made alike share their connections."""

    __slots__ = ("authority", "compression", "credentials", "health_service", "options")

    def __init__(
        self, authority: str, credentials: Any, options: tuple[tuple[str, Any], ...], compression: Any
    ) -> None:
        self.authority = authority
        self.credentials = credentials
        self.compression = compression
        self.health_service = _health_service(dict(options).get("grpc.service_config"))
        self.options = options


def _health_service(service_config: Any) -> str | None:
    """The service to ask grpc.health.v1 about, None for none: gRPC's own ``healthCheckConfig``."""
    if not service_config:
        return None
    try:
        found = json.loads(service_config).get("healthCheckConfig")
        return None if found is None else str(found.get("serviceName", ""))
    except (ValueError, AttributeError) as error:
        raise MeshError(f"the channel option grpc.service_config is not a JSON object: {error}") from error


_made: weakref.WeakSet[Upstream] = weakref.WeakSet()


class Upstream:
    """A channel to one endpoint. ``calls`` holds its multicallables by the mesh's own methods. ``loop`` is None for
    threads. ``left``: how many more calls it may carry (maxRequestsPerConnection), None: any number; ``until``: by the
    mesh's clock, when it is too old (maxConnectionDuration); ``tls``: the certificate files that it was
    made with. ``under_way``: calls of gRPC core's binding on the loop, which
    grpcio's own closing does not know."""

    __slots__ = (
        "__weakref__",
        "_credentials",
        "_look_at",
        "calls",
        "channel",
        "ended",
        "left",
        "loop",
        "pid",
        "subscribed",
        "tls",
        "under_way",
        "until",
        "watching",
        "worn",
    )

    def __init__(self, channel: Any, loop: Any, left: int | None, until: float | None) -> None:
        self.channel = channel
        self.calls: dict[Any, Any] = {}
        self.under_way: set[Any] = set()
        self.loop = loop
        self.left = left
        self.until = until
        self.worn = left is not None or until is not None  # whether that has to be looked at
        self.tls: Followed[Any] | None = None
        self.pid = os.getpid()
        self.watching: Callable[[], None] | None = None  # ends what watches its connectivity
        self.ended: list[Callable[[], None]] = []
        self.subscribed = False  # whether grpcio has had a thread that watches its connectivity
        _made.add(self)

    def follow(self, files: Followed[Any], credentials: Any, now: float) -> None:
        """The channel is for calls as long as its credentials are those of the files."""
        self.tls, self._credentials, self._look_at = files, credentials, now + LOOK
        self.worn = True

    def usable(self, now: float) -> bool:
        """Whether it may carry one more call; counts it."""
        if self.pid != os.getpid():
            return False
        if self.until is not None and now >= self.until:
            return False
        if self.tls is not None and now >= self._look_at:
            self._look_at = now + LOOK
            if self.tls.current() is not self._credentials:
                return False
        if self.left is not None:
            if self.left <= 0:
                return False
            self.left -= 1
        return True

    def multicallable(self, method: Any, target: bytes) -> Any:
        """grpcio's multicallable for a method of the mesh's channel, with the path that a rule may have rewritten."""
        if len(self.calls) >= MAX_METHODS:
            self.calls.clear()
        made = method.make(self.channel, target.decode("latin-1"))
        if method.kind == "unary_unary":
            of_core = core_unary.for_threads if self.loop is None else core_unary.for_loops
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
            # grpcio's close waits for every call to be told of its end, and may wait for ever (see ``stream.unblock``)
            closing_thread = threading.Thread(target=self._close_channel, name="meshlib-grpc-close", daemon=True)
            closing_thread.start()
            if not self.subscribed:
                closing_thread.join(CLOSING)
        else:
            soon_on(self.loop, self._close_on_loop)

    def _close_on_loop(self) -> None:
        for call in list(self.under_way):
            call.cancel(CHANNEL_CLOSED)
        task = self.loop.create_task(self.channel.close())
        _closing.add(task)  # a loop's own reference to its tasks is a weak one
        task.add_done_callback(_closing.discard)

    def _close_channel(self) -> None:
        if self.subscribed:  # grpcio's watching thread looks at the channel once more, and must not find it closed
            SystemClock.sleep(UNWATCHED)
        self.channel.close()


def connect(
    cluster: BoundCluster, endpoint: EndpointState, settings: ChannelSettings, authority: str, loop: Any, now: float
) -> Upstream:
    """A new channel to ``endpoint`` as the cluster's policies want it. Raises ``CannotConnect``."""
    limits, tls = cluster.spec.limits, cluster.spec.tls
    options: dict[str, Any] = {
        "grpc.default_authority": authority,
        "grpc.enable_http_proxy": 0,  # a proxy of the environment must not stand between the mesh and its endpoints
        "grpc.service_config_disable_resolution": 1,
        "grpc.initial_reconnect_backoff_ms": FIRST_BACKOFF_MS,
        "grpc.min_reconnect_backoff_ms": max(1, int(limits.connect_timeout * 1000)),
        "grpc.max_reconnect_backoff_ms": LONGEST_BACKOFF_MS,
        "grpc.client_idle_timeout_ms": max(1000, int(min(limits.idle_timeout, 2_000_000) * 1000)),
    }
    left = limits.max_requests_per_connection or None
    until = None if limits.max_connection_duration is None else now + limits.max_connection_duration
    if left is not None or until is not None:
        options["grpc.use_local_subchannel_pool"] = 1  # its connection must end with it
    credentials = settings.credentials
    followed: Followed[Any] | None = None
    if tls is not None:
        if credentials is not None and type(credentials._credentials).__name__ == "CompositeChannelCredentials":
            raise CannotConnect(
                "the DestinationRule's tls replaces the channel's credentials, and the call credentials in them would be "
                "lost: give call credentials with each call (credentials=...), or set tls mode DISABLE"
            )
        followed, name = _tls(tls, authority)
        try:
            credentials = followed.current()
        except UnusableFiles as error:
            raise CannotConnect(str(error)) from error
        if name:
            options["grpc.ssl_target_name_override"] = name
            host = split_authority(authority)[0]
            if name != host:  # gRPC core compares the call's authority, port and all, with the bare host then
                options["grpc.default_authority"] = host
    elif credentials is not None:
        # the certificate is for the host that the caller named (grpc.default_authority, if that is set, as in grpcio itself),
        # not for the endpoint's address
        options["grpc.ssl_target_name_override"] = split_authority(settings.authority)[0]
    options.update(settings.options)
    address = _address(endpoint.endpoint.address, endpoint.endpoint.port)
    pairs = list(options.items())
    channel = make_channel(loop is not None, address, credentials, pairs, settings.compression)
    made = Upstream(channel, loop, left, until)
    if followed is not None and followed.files:
        made.follow(followed, credentials, now)
    return made


def _address(host: str, port: int) -> str:
    """The endpoint as a gRPC target."""
    if host.startswith("unix:"):
        return host
    if is_name(host):
        return f"dns:///{host}:{port}"
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _tls(settings: TlsSettings, authority: str) -> tuple[Followed[Any], str]:
    """Credentials for a DestinationRule's ``tls`` and the name that the certificate must have. What grpcio cannot check
    is not left unchecked: such a connection is refused."""
    name = settings.sni or split_authority(authority)[0]
    if settings.insecure_skip_verify:
        raise CannotConnect(
            "tls.insecureSkipVerify: grpcio always verifies certificates; set caCertificates to the server's own CA"
        )
    if settings.ca_crl:
        raise CannotConnect("tls.caCrl: grpcio does not look at revocation lists, and the policy asks for it")
    wanted = settings.subject_alt_names
    if wanted:
        if len(wanted) > 1 or "://" in wanted[0]:
            raise CannotConnect(
                f"tls.subjectAltNames {', '.join(wanted)}: grpcio checks one DNS name and nothing else (a certificate with "
                "another SPIFFE ID would be accepted); name the one DNS name of the certificate, or use httpx"
            )
        if settings.sni and settings.sni != wanted[0]:
            raise CannotConnect(
                f"tls.sni {settings.sni} and subjectAltNames {wanted[0]} differ: grpcio uses one name for both"
            )
        name = wanted[0]
    return _credentials(settings), name


@functools.lru_cache(maxsize=64)
def _credentials(settings: TlsSettings) -> Followed[Any]:
    """grpcio's credentials cannot change, and do not say when they are of no use: they are made anew when the files change,
    of contents that OpenSSL can read."""
    files = (settings.ca_certificates, settings.private_key, settings.client_certificate)

    def load() -> Any:
        load_context(settings)
        contents: list[bytes | None] = []
        for file in files:
            if file:
                with open(file, "rb") as opened:
                    contents.append(opened.read())
            else:
                contents.append(None)
        return grpc.ssl_channel_credentials(*contents)

    return Followed("the TLS files of a DestinationRule", files, load)


class Upstreams:
    """A mesh's channels to endpoints. They live in ``BoundCluster.targets`` beside those of HTTP, so that reloads treat
    them alike; here are only the settings they share and the list to close."""

    def __init__(self) -> None:
        self._settings: dict[Any, ChannelSettings] = {}
        self._kept_by_parent: list[Any] = []
        self._used = False  # whether this process, or the one it was forked from, has made a channel
        self._forked = False

    def settings(
        self, authority: str, credentials: Any, options: tuple[tuple[str, Any], ...], compression: Any
    ) -> ChannelSettings:
        """The one object for these values."""
        key = (authority, id(credentials), options, compression)
        try:
            found = self._settings.get(key)
        except TypeError:  # an option whose value is a pointer or a function of the caller's
            return ChannelSettings(authority, credentials, options, compression)
        if found is None:
            # it holds the credentials, whose id cannot be anybody else's as long as it lives
            found = self._settings[key] = ChannelSettings(authority, credentials, options, compression)
        return found

    def check(self) -> None:
        """Whether channels can be made here. Raises ``CannotConnect`` in the child of a process that has used gRPC, unless
        grpcio's fork support is on: gRPC core's threads do not exist there, and every call would wait for ever."""
        if self._forked and os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() not in ("1", "true", "yes"):
            raise CannotConnect(
                "this process was forked from one that had made gRPC calls: set GRPC_ENABLE_FORK_SUPPORT=1 in its environment "
                "before grpc is imported, or make no call before the fork (channels of the mesh may be made)"
            )
        self._used = True

    def after_fork(self) -> None:
        """In a forked child. Calls that the parent has left as garbage are not to be collected here: their destruction takes
        locks of gRPC core, which threads of the parent may have held, and ends in a hang or an abort."""
        self._forked = self._used
        for upstream in list(_made):  # wherever it is kept: a call on it would hang in gRPC core
            upstream.worn = True
            self._kept_by_parent.append(upstream)
        if self._used:
            gc.freeze()

    def abandon(self, cluster: BoundCluster) -> None:
        """In a forked child: the parent's channels must not be used, and not even be freed. What they watched, nobody
        watches here: the next attempt will tell."""
        for key, target in list(cluster.targets.items()):
            if isinstance(target, Upstream):
                self._kept_by_parent.append(cluster.targets.pop(key))
                if target.watching is not None or target.ended:
                    cluster.state.observe_health(key[0], reachable=True, serving=True)


def upstreams_of_mesh(core: MeshCore) -> Upstreams:
    """What all gRPC channels of a mesh share; made when there is one."""
    found = core.channels
    if not isinstance(found, Upstreams):
        found = core.channels = Upstreams()
    return found
