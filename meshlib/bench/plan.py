"""What is measured: ways to call, which take turns, in scenes, at points.

Points lie on axes through one of them (1 kB, 32 in flight, plain text, one rule): every pair of all axes would take a night.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace

from meshlib.bench import http_client, server
from meshlib.bench.scene import APPLICATION, Settings

DIRECT, ENVOY, ENVOYS, PROXY, PROXIES = "direct", "1 Envoy", "2 Envoys", "1 meshlib proxy", "2 meshlib proxies"
KB = 1 << 10
LIBRARY, GRPC, PROXY_ONLY, SERVERS = ONLY = ("library", "grpc", "proxy", "servers")
ASYNCIO, SYNC = "asyncio", "sync"
GENERATOR, ASGI, WSGI = "generator", "asgi", "wsgi"
MESH_NAME, GRPC_MESH_NAME = "httpx through meshlib", "gRPC through meshlib"
GRPC_ONE_NAME = "gRPC through meshlib, one endpoint"


@dataclass(frozen=True)
class Way:
    """``client``: which of the ways of its program; ``via``: what stands between it and the backend; ``needs``: modules;
    ``traced``: whoever has the policies sends a span of each call; ``one_endpoint``: the service in the mesh has one alone, as
    there is one for who has no mesh."""

    name: str
    client: str
    baseline: str | None = None
    via: str = DIRECT
    needs: str = ""
    traced: bool = False
    one_endpoint: bool = False


@dataclass(frozen=True)
class Point:
    """``rate``: calls due in a second, 0 for a closed loop."""

    in_flight: int = 32
    body: int = KB
    rate: float = 0.0


@dataclass(frozen=True)
class Part:
    """A scene, and the ways that take turns in it at each point. ``world``: how callers run."""

    group: str
    world: str
    ways: tuple[Way, ...]
    points: tuple[Point, ...]
    settings: Settings = field(default_factory=Settings)

    @property
    def exact(self) -> bool:
        """Whether calls are due at times (open loop)."""
        return any(point.rate for point in self.points)


@dataclass(frozen=True)
class Pace:
    """``rounds`` of each way at a point, after one that is not counted, of ``seconds``."""

    rounds: int
    seconds: float


QUICK, FULL = Pace(7, 0.3), Pace(11, 0.5)


def parts_of_a_round(group: str) -> int:
    """gRPC's rows have twice as many rounds, half as long: how its threads share the cores changes from one round to the next,
    and more of them make narrower intervals in the same time."""
    return 2 if group == GRPC else 1


def pace_of(pace: Pace, group: str) -> Pace:
    """That of a group's rows."""
    parts = parts_of_a_round(group)
    return Pace(pace.rounds * parts, pace.seconds / parts)


BARE = Way("bare httpx", http_client.BARE)
MESH = Way(MESH_NAME, http_client.MESH, BARE.name)
ONE_ENVOY = Way("httpx through 1 Envoy", http_client.BARE, BARE.name, ENVOY)
TWO_ENVOYS = Way("httpx through 2 Envoys", http_client.BARE, BARE.name, ENVOYS)
ONE_PROXY = Way("httpx through 1 meshlib proxy", http_client.BARE, BARE.name, PROXY)
TWO_PROXIES = Way("httpx through 2 meshlib proxies", http_client.BARE, BARE.name, PROXIES)
BY_HAND = Way("httpx, tenacity, pybreaker, prometheus by hand", http_client.BY_HAND, BARE.name)
HTTPX2 = Way("bare httpx2", http_client.HTTPX2, BARE.name, needs="httpx2")
AIOHTTP = Way("bare aiohttp", http_client.AIOHTTP, BARE.name, needs="aiohttp")

ON_A_LOOP = (BARE, HTTPX2, AIOHTTP, BY_HAND, MESH, ONE_ENVOY, TWO_ENVOYS, ONE_PROXY, TWO_PROXIES)
IN_THREADS = tuple(way for way in ON_A_LOOP if way is not AIOHTTP)
SHORT = (BARE, MESH, ONE_ENVOY)

TRACED = tuple(replace(way, name=f"{way.name}, traced", traced=True) for way in (MESH, ONE_ENVOY, ONE_PROXY))

BARE_GRPC = Way("bare grpcio", http_client.BARE, needs="grpc")
"""One channel to one endpoint, over one connection."""
GRPC_ONE = Way(GRPC_ONE_NAME, http_client.MESH, BARE_GRPC.name, needs="grpc", one_endpoint=True)
"""The same endpoint, the same one connection."""
SPREAD_GRPC = Way("bare grpcio, to each endpoint", "round robin", BARE_GRPC.name, needs="grpc")
"""Four endpoints, a connection to each, as the mesh and ``xds:///`` have them. ``grpc_client.SPREAD``."""
XDS_GRPC = Way("grpcio xds:///", "xds", SPREAD_GRPC.name, needs="envoy.service.discovery.v3.ads_pb2_grpc")
"""``grpc_client.XDS``. The control plane (``control_plane.py``) sends once, and is in no figure."""
GRPC_MESH = Way(GRPC_MESH_NAME, http_client.MESH, SPREAD_GRPC.name, needs="grpc")
GRPC_ENVOY = Way("gRPC through 1 Envoy", http_client.BARE, BARE_GRPC.name, ENVOY, "grpc")
GRPC_ENVOYS = Way("gRPC through 2 Envoys", http_client.BARE, BARE_GRPC.name, ENVOYS, "grpc")
GRPC_PROXY = Way("gRPC through 1 meshlib proxy", http_client.BARE, BARE_GRPC.name, PROXY, "grpc")
GRPC_SHORT = (BARE_GRPC, GRPC_ONE, SPREAD_GRPC, GRPC_MESH, GRPC_ENVOY)
GRPC_WAYS = (*GRPC_SHORT, GRPC_ENVOYS, GRPC_PROXY)
GRPC_PLAIN = (*GRPC_SHORT[:4], XDS_GRPC, *GRPC_WAYS[4:])
GRPC_MANY = (BARE_GRPC, SPREAD_GRPC, GRPC_MESH, XDS_GRPC, GRPC_ENVOY, GRPC_PROXY)

NO_PROXY = Way("no proxy", "", via=DIRECT)
BEHIND = (
    NO_PROXY,
    Way("1 Envoy", "", via=ENVOY),
    Way("1 meshlib proxy", "", "1 Envoy", PROXY),
    Way("2 Envoys", "", via=ENVOYS),
    Way("2 meshlib proxies", "", "2 Envoys", PROXIES),
)
"""CPU is the proxies'; so those of Envoy are what ours are told against."""


def _servers(kind: str, name: str) -> tuple[Way, ...]:
    return (
        Way(f"bare {name}", kind),
        Way(f"{name} with meshlib", f"{kind}+mesh", f"bare {name}"),
        Way(f"{name} behind 1 Envoy", kind, f"bare {name}", ENVOY),
        Way(f"{name} behind 1 meshlib proxy", kind, f"bare {name}", PROXY),
    )


WITH_MESH = "+mesh"
ASGI_WAYS, WSGI_WAYS = _servers(server.FASTAPI, "FastAPI"), _servers(server.FLASK, "Flask")

WITHOUT_XDS = "grpcio xds:/// is measured without --quick, where the extra envoy is installed"
COMPARED = (
    (MESH_NAME, BARE.name),
    (MESH_NAME, AIOHTTP.name),
    (MESH_NAME, BY_HAND.name),
    (MESH_NAME, ONE_ENVOY.name),
    (MESH_NAME, TWO_ENVOYS.name),
    (f"{MESH_NAME}, traced", MESH_NAME),
    (f"{MESH_NAME}, traced", f"{ONE_ENVOY.name}, traced"),
    (ONE_PROXY.name, ONE_ENVOY.name),
    (TWO_PROXIES.name, TWO_ENVOYS.name),
    (GRPC_ONE_NAME, BARE_GRPC.name),
    (GRPC_MESH_NAME, SPREAD_GRPC.name),
    (GRPC_MESH_NAME, BARE_GRPC.name),
    (GRPC_MESH_NAME, XDS_GRPC.name),
    (GRPC_MESH_NAME, GRPC_ENVOY.name),
    (GRPC_PROXY.name, GRPC_ENVOY.name),
    ("1 meshlib proxy", "1 Envoy"),
    ("2 meshlib proxies", "2 Envoys"),
    ("FastAPI with meshlib", "bare FastAPI"),
    ("FastAPI with meshlib", "FastAPI behind 1 Envoy"),
    ("Flask with meshlib", "bare Flask"),
    ("Flask with meshlib", "Flask behind 1 Envoy"),
)
"""What sentences are made of."""


def quick(only: str | None) -> list[Part]:
    """Under a minute; of proxies and servers only where they are asked for."""
    points = (Point(1), Point(32))
    parts = [
        Part(LIBRARY, ASYNCIO, (*SHORT, AIOHTTP), points),
        Part(GRPC, ASYNCIO, GRPC_SHORT, points, Settings(protocol="grpc")),
    ]
    if only == PROXY_ONLY:
        parts.append(Part(PROXY_ONLY, GENERATOR, BEHIND[:3], points))
    if only == SERVERS:
        application = Settings(protocol=APPLICATION)
        parts += [
            Part(SERVERS, ASGI, ASGI_WAYS, points, application),
            Part(SERVERS, WSGI, WSGI_WAYS, points, application),
        ]
    return [part for part in parts if only in (None, part.group)]


def full(only: str | None) -> list[Part]:
    """All of it."""
    axes = (Point(1), Point(8), Point(32), Point(128), Point(32, 0), Point(32, KB << 6), Point(32, KB << 10))
    parts: list[Part] = []
    for world, ways, rates in ((ASYNCIO, ON_A_LOOP, (200, 500)), (SYNC, IN_THREADS, (200,))):
        parts.append(Part(LIBRARY, world, ways, axes))
        parts.append(Part(LIBRARY, world, ways, tuple(Point(32, KB, rate) for rate in rates)))
        secure = tuple(way for way in ways if way is not HTTPX2)
        parts.append(Part(LIBRARY, world, secure, (Point(1), Point(32)), Settings(tls=True)))
        many = (*SHORT, ONE_PROXY)
        parts += [Part(LIBRARY, world, many, (Point(32),), Settings(rules=rules)) for rules in (100, 10_000)]
    traced = (BARE, MESH, ONE_ENVOY, ONE_PROXY, *TRACED)
    parts.append(Part(LIBRARY, ASYNCIO, traced, (Point(16),), Settings(tracing=True)))
    for world in (SYNC, ASYNCIO):
        settings = Settings(protocol="grpc")
        parts.append(Part(GRPC, world, GRPC_PLAIN, axes, settings))
        parts.append(Part(GRPC, world, GRPC_PLAIN, (Point(32, KB, 200),), settings))
        parts.append(Part(GRPC, world, GRPC_WAYS, (Point(1), Point(32)), Settings(tls=True, protocol="grpc")))
        parts += [Part(GRPC, world, GRPC_MANY, (Point(32),), Settings(rules=n, protocol="grpc")) for n in (100, 10_000)]
    parts.append(Part(PROXY_ONLY, GENERATOR, BEHIND, axes))
    parts.append(Part(PROXY_ONLY, GENERATOR, BEHIND, (Point(32, KB, 500), Point(32, KB, 1000))))
    parts += [Part(PROXY_ONLY, GENERATOR, BEHIND[:3], (Point(),), Settings(rules=rules)) for rules in (100, 10_000)]
    for world, ways in ((ASGI, ASGI_WAYS), (WSGI, WSGI_WAYS)):
        with_one = (Point(1), Point(8), Point(32), Point(32, KB << 6))
        for rules, points in ((1, with_one), (100, (Point(8),)), (10_000, (Point(8),))):
            parts.append(Part(SERVERS, world, ways, points, Settings(rules=rules, protocol=APPLICATION)))
        parts.append(Part(SERVERS, world, ways, (Point(8, KB, 200),), Settings(protocol=APPLICATION)))
    return [part for part in parts if only in (None, part.group)]


def missing(way: Way) -> str:
    """Why a way cannot be measured here, "" when it can."""
    try:
        there = not way.needs or importlib.util.find_spec(way.needs) is not None
    except ModuleNotFoundError:  # nor is what it is in
        there = False
    if there:
        return ""
    remedy = " (pip install 'sidecarless[envoy]')" if way is XDS_GRPC else ""
    return f"{way.name} is left out: the module {way.needs} is not installed{remedy}"
