"""``Mesh``: what users hold. A source of resources, the compiled snapshot, the live state, and the doors to use them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from meshlib.alarms import Alarms
from meshlib.changes import Differences, differences
from meshlib.clock import Clock, SystemClock
from meshlib.compiler.compile import HTTPS_RULES, Compiler, HttpsRules
from meshlib.engine import inbound_context
from meshlib.engine.deadlines import seconds_left, until
from meshlib.engine.explain import explain
from meshlib.engine.explanation import Explanation
from meshlib.engine.live import seeded
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.status import status
from meshlib.pace import NotWanted, Slices, is_watched, let_go, much_is_made, slices
from meshlib.problems import ConfigError, MeshError, Problem, Severity
from meshlib.progress import shown
from meshlib.resources.base import let_go_of
from meshlib.resources.loader import load_objects
from meshlib.resources.object_memo import ObjectMemo
from meshlib.sources.environment import https_rules_from_env, workload_from_env
from meshlib.sources.files import FileSource, newly_wrong
from meshlib.telemetry.observe import InboundTelemetry, Telemetry
from meshlib.transport.core.mesh_core import MeshCore
from meshlib.transport.grpcio.client.method import Named
from meshlib.transport.grpcio.client.request import GrpcRequest
from meshlib.transport.httpx.clients import AsyncMeshClient, MeshClient, arguments
from meshlib.transport.httpx.module import module_of, typed
from meshlib.transport.httpx.origins import BadUrl, origin_of, written_port
from meshlib.transport.httpx.through_inner import async_runtime, sync_runtime
from meshlib.transport.httpx.transport import transports
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.forked import take_all
from meshlib.workload import Workload

if TYPE_CHECKING:
    import grpc
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

    from meshlib.engine.inbound import InboundRequest
    from meshlib.resources.base import Resource
    from meshlib.sources.removals import Verdict
    from meshlib.transport.grpcio.contracts import RequestMessages

log = logging.getLogger("meshlib")

GRPC_SCHEMES = {"grpc": "http", "grpcs": "https"}

_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()


class Mesh:
    """A client's view of the mesh.

    Make one with ``from_path``, ``from_resources`` or ``from_env``; it may be shared by threads, event loops and forked
    children. ``seed`` makes every random choice replay; ``clock`` replaces time (for tests). ``retry_wait`` is a tenacity
    wait strategy used instead of the routes' own backoff. ``registry`` is the prometheus_client registry of the metrics and
    ``tracer_provider`` OpenTelemetry's provider of the spans; the global ones by default. ``https_rules`` says what decides
    about https URLs: "mesh", the http rules of their host, which act before the caller's TLS; "istio", what a sidecar makes of
    TLS: ``tls`` rules, else the service, and never http rules.
    """

    def __init__(
        self,
        resources: Sequence[Resource] = (),
        problems: Sequence[Problem] = (),
        *,
        workload: Workload | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        retry_wait: Any = None,
        registry: CollectorRegistry | None = None,
        tracer_provider: TracerProvider | None = None,
        https_rules: HttpsRules = "mesh",
        source: FileSource | None = None,
    ) -> None:
        self.workload = workload or Workload()
        self._lock = threading.RLock()
        self._changing = threading.RLock()  # held while resources are read and compiled, which takes its time
        self._waiting = 0  # who wants to change something
        self._source = source
        self._resources: list[Resource] = []
        self._kept: list[Resource] = []
        self._problems: list[Problem] = []
        clock = clock or SystemClock()
        alarms = Alarms(clock)
        telemetry = Telemetry(registry, tracer_provider, self.workload, clock.monotonic)
        self._core = MeshCore(clock, seeded(seed), retry_wait, telemetry, alarms)
        self._serving: InboundTelemetry | None = None
        self._registry = registry
        self._tracer_provider = tracer_provider
        if https_rules not in HTTPS_RULES:
            raise MeshError(f"https_rules is {' or '.join(map(repr, HTTPS_RULES))}, not {https_rules!r}")
        self._https_rules: HttpsRules = https_rules
        self._compiler = Compiler(self.workload, https_rules=https_rules)
        self._objects = ObjectMemo()
        self._reloads = 0
        self._install(list(resources), list(problems), [])
        self._core.owner = self  # who holds a client holds the mesh, whose files it goes on following
        if source is not None:
            weakref.finalize(self, source.stop, wait=False).atexit = False
        _meshes.add(self)

    # -- making one -------------------------------------------------------------------------------------------------

    @classmethod
    def from_path(
        cls,
        *paths: str | os.PathLike[str],
        watch: bool = True,
        workload: Workload | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        retry_wait: Any = None,
        registry: CollectorRegistry | None = None,
        tracer_provider: TracerProvider | None = None,
        https_rules: HttpsRules = "mesh",
    ) -> Mesh:
        """Resources from files, folders or globs, re-read when they change (``watch``).

        Raises ``ConfigError`` with every problem of every file when something is wrong at the start. Later edits that
        break a resource keep its last good version, are logged once and shown in ``status()``. What is gone from a file is
        served for two more seconds, and what would leave nothing of a file or folder until ``reload(accept_removals=True)``.
        """
        clock = clock or SystemClock()
        source = FileSource(paths, clock)
        with shown(f"meshlib: loading {source}"):
            resources, problems = source.load()
            _raise_errors(problems)
            mesh = cls(
                resources,
                problems,
                workload=workload,
                clock=clock,
                seed=seed,
                retry_wait=retry_wait,
                registry=registry,
                tracer_provider=tracer_provider,
                https_rules=https_rules,
                source=source,
            )
        if watch:
            source.watch(mesh._reload_watched)
        return mesh

    @classmethod
    def from_resources(
        cls,
        resources: Iterable[Mapping[str, Any]],
        *,
        workload: Workload | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        retry_wait: Any = None,
        registry: CollectorRegistry | None = None,
        tracer_provider: TracerProvider | None = None,
        https_rules: HttpsRules = "mesh",
    ) -> Mesh:
        """Resources as the dicts that YAML would give. Raises ``ConfigError`` with every problem."""
        loaded, problems = _from_objects(resources, memo := ObjectMemo())
        mesh = cls(
            loaded,
            problems,
            workload=workload,
            clock=clock,
            seed=seed,
            retry_wait=retry_wait,
            registry=registry,
            tracer_provider=tracer_provider,
            https_rules=https_rules,
        )
        mesh._objects = memo
        return mesh

    @classmethod
    def from_env(
        cls,
        *,
        workload: Workload | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        retry_wait: Any = None,
        registry: CollectorRegistry | None = None,
        tracer_provider: TracerProvider | None = None,
        https_rules: HttpsRules | None = None,
    ) -> Mesh:
        """As the environment says: MESHLIB_CONFIG (paths, separated as in PATH), MESHLIB_HTTPS_RULES and the workload's
        MESHLIB_* variables.

        Raises ``MeshError`` when MESHLIB_CONFIG is not set, ``ConfigError`` for what is wrong in the files.
        """
        config = os.environ.get("MESHLIB_CONFIG", "")
        if not config:
            raise MeshError(
                "MESHLIB_CONFIG is not set; set it to the file or folder that holds the mesh's YAML, "
                "or use Mesh.from_path(...)"
            )
        return cls.from_path(
            *config.split(os.pathsep),
            workload=workload or workload_from_env(os.environ),
            clock=clock,
            seed=seed,
            retry_wait=retry_wait,
            registry=registry,
            tracer_provider=tracer_provider,
            https_rules=https_rules or https_rules_from_env(os.environ),
        )

    # -- configuration ----------------------------------------------------------------------------------------------

    def apply(self, resources: Iterable[Mapping[str, Any]]) -> None:
        """Replace all resources at once. All or nothing: raises ``ConfigError`` with every problem, and the last good
        configuration stays. Calls under way end on the configuration they began with.

        Costs what has changed since the last time, and a look at each dict; resources that ``load_objects`` made are known
        by their identity, without a look."""
        with self._change():
            loaded, problems = _from_objects(resources, self._objects)
            self._install(loaded, problems, [], self._objects.take_differences())

    def reload(self, *, accept_removals: bool = False) -> None:
        """Read the source again, whatever the times of its files say.

        Resources that an edit broke keep their last good version; the rest takes effect. So do resources whose file or
        folder now yields nothing at all (an error in log, ``status()`` and ``problems``), and those gone from a file that
        changed within the last two seconds, as it may be half written; with ``accept_removals`` what is gone goes, which a
        person should have looked at. What goes is logged as a warning. Raises ``MeshError`` for a mesh without files.
        """
        self._reload(by_hand=True, accept=accept_removals)

    def _reload_watched(self) -> None:
        # in slices: event loops and threads of this process go on while files are read and compiled
        stopping = self._source.stopping if self._source is not None else None
        work = Slices(lambda: self._waiting > 0, lambda: stopping is not None and stopping.is_set())
        with slices(work), much_is_made(), contextlib.suppress(NotWanted):
            self._reload(by_hand=False, accept=False)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """One change at a time; who waits for a reload in slices has it go on without a rest."""
        with self._lock:
            self._waiting += 1
        self._changing.acquire()
        with self._lock:
            self._waiting -= 1
        try:
            yield
        finally:
            self._changing.release()

    def _reload(self, *, by_hand: bool, accept: bool) -> None:
        source = self._source
        if source is None:
            raise MeshError("this mesh has no files to reload; use mesh.apply(resources)")
        with self._change():
            verdict, problems = source.reload(self._resources, by_hand=by_hand, accept=accept)
            self._tell(verdict, problems)  # before it can be seen to have happened
            self._install(verdict.serve, problems, verdict.kept)
            self._reloads += 1

    def _tell(self, verdict: Verdict[Resource], problems: Sequence[Problem]) -> None:
        news = newly_wrong(problems, self._problems)
        for problem in news:
            log.error("%s", problem)
        broken = [r.id for r in verdict.kept if r.origin.file not in verdict.places]
        if broken and any(p.file not in verdict.places for p in news):
            log.error("the last good version stays in use of: %s", ", ".join(broken))
        for problem in problems:
            if problem.code == "resources-removed":
                log.warning("%s", problem)
            elif problem.code == "removal-waits" and problem not in self._problems:
                log.info("%s", problem)

    def _install(
        self,
        resources: list[Resource],
        problems: list[Problem],
        kept: list[Resource],
        known: Differences[Resource] | None = None,
    ) -> None:
        snapshot = self._compiler.compile(resources, known=known)
        live = self._core.live
        in_turns = is_watched() and live is not None
        before = live.snapshot.not_in(snapshot) if in_turns and live is not None else []
        del live
        with self._lock:
            if self._core.closed:
                return
            self._core.install(snapshot)
            old, self._resources = self._resources, resources
            self._kept = kept
            self._problems = [*problems, *snapshot.problems]
        if in_turns:  # what nobody uses any more goes bit by bit
            let_go(before)
            gone = [old[i] for i in differences(old, resources).gone]
            del old
            let_go_of(gone)

    @property
    def problems(self) -> list[Problem]:
        """What the newest load had to say: errors of broken edits, warnings, notices."""
        return list(self._problems)

    # -- doors ------------------------------------------------------------------------------------------------------

    def http_transport(
        self,
        inner: Any = None,
        *,
        local_replies: str = "raise",
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http2: bool = False,
        limits: Any = None,
        module: ModuleType | None = None,
    ) -> Any:
        """A transport for ``httpx.Client``.

        ``inner`` sends through any other httpx transport (MockTransport, WSGITransport ...): it gets the request with the
        endpoint's address in its URL and the mesh authority in Host. ``local_replies="respond"`` answers what Envoy would
        (503, 504) where the default raises httpx's exceptions. ``verify``, ``cert``, ``trust_env`` and ``http2`` are httpx's,
        for https URLs: over plaintext the mesh says who speaks HTTP/2. ``limits`` (httpx.Limits) bounds the connections of
        this transport beside the mesh's own limits; None: only those. What is said beside ``inner`` does not matter.
        ``module`` is httpx or httpx2; found out from ``inner``, else httpx.
        """
        module = typed(module) if module is not None else module_of(inner)
        runtime = sync_runtime(self._core, inner, _settings(verify, cert, trust_env, http2, limits), module)
        return transports(module).sync(self._core, runtime, local_replies)

    def async_http_transport(
        self,
        inner: Any = None,
        *,
        local_replies: str = "raise",
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http2: bool = False,
        limits: Any = None,
        module: ModuleType | None = None,
    ) -> Any:
        """The same for ``httpx.AsyncClient``; one transport may serve several event loops."""
        module = typed(module) if module is not None else module_of(inner)
        runtime = async_runtime(self._core, inner, _settings(verify, cert, trust_env, http2, limits), module)
        return transports(module).asynchronous(self._core, runtime, local_replies)

    def client(self, *, local_replies: str = "raise", **httpx_kwargs: Any) -> httpx.Client:
        """An ``httpx.Client`` whose calls go through the mesh; takes httpx.Client's own arguments.

        ``transport`` is the ``inner`` of ``http_transport``. ``proxy``, ``mounts`` and the proxies of the environment
        (``trust_env``) act for hosts outside the registry, never for hosts of the mesh. Raises TypeError or ValueError for
        arguments that could not act (``http1=False``)."""
        return MeshClient(**arguments(self.http_transport, httpx_kwargs, httpx.HTTPTransport, local_replies))

    def async_client(self, *, local_replies: str = "raise", **httpx_kwargs: Any) -> httpx.AsyncClient:
        """An ``httpx.AsyncClient`` whose calls go through the mesh; takes httpx.AsyncClient's own arguments, as ``client``."""
        made = arguments(self.async_http_transport, httpx_kwargs, httpx.AsyncHTTPTransport, local_replies)
        return AsyncMeshClient(**made)

    def grpc_server_interceptors(self, *, propagate_deadline: bool = True) -> list[Any]:
        """For ``grpc.server(pool, interceptors=mesh.grpc_server_interceptors())``, before interceptors of your own.

        Each call is identified (``inbound()``), may be refused or hit by a fault of an EnvoyFilter, is counted and traced.
        With ``propagate_deadline`` calls that its handler makes through the mesh end when the caller's deadline does. Needs
        the extra ``grpc``.
        """
        _grpcio()
        from meshlib.transport.grpcio.server.served import Served
        from meshlib.transport.grpcio.server.threads import MeshServerInterceptor

        return [MeshServerInterceptor(Served(self._core, self._telemetry_of_servers(), propagate_deadline))]

    def aio_grpc_server_interceptors(self, *, propagate_deadline: bool = True) -> list[Any]:
        """The same for ``grpc.aio.server(interceptors=...)``."""
        _grpcio()
        from meshlib.transport.grpcio.server.loop import MeshAioServerInterceptor
        from meshlib.transport.grpcio.server.served import Served

        return [MeshAioServerInterceptor(Served(self._core, self._telemetry_of_servers(), propagate_deadline))]

    def _telemetry_of_servers(self) -> InboundTelemetry:
        with self._lock:
            if self._serving is None:
                self._serving = InboundTelemetry(
                    self._registry, self._tracer_provider, self.workload, self._core.clock.monotonic
                )
            return self._serving

    def inbound(self) -> InboundRequest | None:
        """The request that is being served right here (its peer, principal, path, headers), or None outside of a handler.
        Known in handlers, in what they call and in their response generators; not in threads that they start."""
        return inbound_context.current.get()

    def grpc_channel(
        self, target: str, credentials: Any = None, options: Any = None, *, compression: Any = None
    ) -> grpc.Channel:
        """A ``grpc.Channel`` to a host of the mesh, such as ``ratings:9080``: all four kinds of calls obey its resources.

        ``credentials``, ``options`` and ``compression`` are those of ``grpc.secure_channel``; without credentials the
        endpoints are spoken to in plaintext unless a DestinationRule has ``tls``. ``xds:///`` targets are grpcio's own
        business: they get its own channel. Raises ``MeshError`` when grpcio is not installed or the target is no host.
        """
        grpcio = _grpcio()
        if target.startswith("xds:"):
            if credentials is None:
                return grpcio.insecure_channel(target, options, compression)  # type: ignore[no-any-return]
            return grpcio.secure_channel(target, credentials, options, compression)  # type: ignore[no-any-return]
        from meshlib.transport.grpcio.client.channel import MeshChannel

        return MeshChannel(self._core, target, credentials, options, compression)

    def aio_grpc_channel(
        self,
        target: str,
        credentials: Any = None,
        options: Any = None,
        *,
        compression: Any = None,
        interceptors: Sequence[Any] | None = None,
    ) -> Any:
        """The same as a ``grpc.aio.Channel``; ``interceptors`` run around the mesh, once a call and not once an attempt."""
        grpcio = _grpcio()
        if target.startswith("xds:"):
            if credentials is None:
                return grpcio.aio.insecure_channel(target, options, compression, interceptors)
            return grpcio.aio.secure_channel(target, credentials, options, compression, interceptors)
        from meshlib.transport.grpcio.client.aio_channel import AioMeshChannel

        return AioMeshChannel(self._core, target, credentials, options, compression, interceptors)

    def deadline(self, left: float | Mapping[str, str] | None) -> contextlib.AbstractContextManager[None]:
        """Calls made inside ``with mesh.deadline(...)`` to services whose ResiliencePolicy has ``deadline`` end in time.

        ``left``: seconds, or the headers of the request being served (as of FastAPI or Flask), from which the time that is
        left is read. Works across ``await``; headers that say nothing change nothing.
        """
        if isinstance(left, Mapping):
            live = self._core.live
            policies = live.snapshot.resilience.values() if live is not None else ()
            left = seconds_left(left, [policy.deadline[0] for policy in policies if policy.deadline is not None])
        return until(None if left is None else self._core.clock.monotonic() + left)

    # -- looking ----------------------------------------------------------------------------------------------------

    def explain(self, *, method: str = "GET", url: str = "/", headers: Mapping[str, str] | None = None) -> Explanation:
        """What would happen to this call, and why: the rule taken, every rule before it with the reason it was not, the
        weights, endpoints, retries, timeouts and faults that would count. Sends nothing.

        A gRPC call is ``url="grpc://ratings:9080/package.Service/Method"`` (``grpcs://`` with channel credentials), its
        metadata the headers (``:authority`` what the option ``grpc.default_authority`` would say); ``method`` does not
        matter then. Raises ``MeshError`` for a URL that cannot be called."""
        live = self._core.live
        if live is None:
            raise MeshError("the mesh is closed")
        scheme, _, rest = url.partition("://")
        if scheme in GRPC_SCHEMES:
            authority, slash, path = rest.partition("/")
            if not authority or not path:
                raise MeshError(
                    f"explain needs a full URL such as grpc://ratings:9080/package.Service/Method, not {url!r}"
                )
            metadata = [
                (name.lower(), value) for name, value in (headers or {}).items() if name.lower() != ":authority"
            ]
            told = next((value for name, value in (headers or {}).items() if name.lower() == ":authority"), authority)
            call: GrpcRequest[RequestMessages] = GrpcRequest(
                Named(slash + path), b"", GRPC_SCHEMES[scheme], told, authority, metadata
            )
            return explain(live, call, self._core.clock.monotonic())
        request = httpx.Request(method, url, headers=dict(headers or {}))
        try:
            scheme, dialled = origin_of(request.url)
        except BadUrl as error:
            raise MeshError(
                f"explain needs a full URL such as http://reviews:9080/reviews/0, not {url!r}: {error}"
            ) from None
        host = request.headers.get("host") or dialled
        written = written_port(url)
        if written and host == dialled and request.url.port is None:
            host = dialled = f"{dialled}:{written}"
        view = PlainRequest(
            request.method,
            scheme,
            host,
            request.url.raw_path.decode("latin-1"),
            dict(request.headers.items()),
            dialled,
        )
        found = explain(live, view, self._core.clock.monotonic())
        if dialled == host and request.url.port is None and written:
            without = live.snapshot.virtual_host(dialled.rpartition(":")[0], scheme)
            if without is not found.virtual_host:
                where = f"{without.host}:{without.port}"
                found.add_details({"url": f"httpx leaves :{written} out of its URLs, and such calls go to {where}"})
        return found

    def status(self) -> dict[str, Any]:
        """Configuration version, sources, problems, endpoints with their health and ejections."""
        live = self._core.live
        self._core.telemetry.catch_up()
        if self._serving is not None:
            self._serving.catch_up()
        return {
            "closed": live is None,
            "telemetry_failures": self._core.telemetry.failures
            + (self._serving.failures if self._serving is not None else 0),
            "alarm_failures": self._core.alarms.failures,
            "names": self._core.names.status(),
            "certificates": self._core.certificates(),
            "mirrors": {"dropped": self._core.background.dropped, "failed": self._core.background.failures},
            "workload": self.workload.name,
            "namespace": self.workload.namespace,
            "source": {
                "kind": "memory" if self._source is None else "files",
                "paths": [] if self._source is None else list(self._source.paths),
                "reloads": self._reloads,
                "last_good_kept": [r.id for r in self._kept],
                "watcher": None if self._source is None else self._source.status(),
            },
            "problems": [
                {
                    "code": p.code,
                    "severity": str(p.severity),
                    "file": p.file,
                    "line": p.line,
                    "column": p.column,
                    "path": p.path,
                    "message": p.message,
                    "hint": p.hint,
                }
                for p in self._problems
            ],
            **({} if live is None else status(live, self._core.clock.monotonic())),
        }

    def describe(self) -> dict[str, Any]:
        """Everything this client could call, whether it has or not: virtual hosts with their claims (``tcp``: connections are
        forwarded, and http rules do not act), clusters with their endpoints. ``status`` tells of what is in use."""
        live = self._core.live
        if live is None:
            raise MeshError("the mesh is closed")
        for key in live.snapshot.clusters:
            live.cluster(key)
        found = self.status()
        found["virtual_hosts"] = [
            {"host": v.host, "port": v.port, "resource": v.resource, "rules": len(v.rules), "tcp": v.tcp}
            for v in live.snapshot.virtual_hosts()
        ]
        return found

    # -- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop watching and close every connection. Idempotent, and callable from any thread.

        Calls under way fail at once with ``ClosedMeanwhile``, in every thread and on every event loop, whatever they wait for
        (a connection, an answer, the rest of a body, a slot, a backoff), and are not tried again; calls after it raise
        ``MeshClosed``. To let calls end, wait for them before. In threads what the caller's own code does cannot be broken
        off: an iterator of a request's body, an ``inner`` transport.
        """
        if self._source is not None:
            self._source.stop()
        with self._lock:
            self._core.close()

    async def aclose(self) -> None:
        """``close`` for asyncio: connections of the running loop are closed when it returns."""
        self.close()
        await self._core.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        live = self._core.live
        state = "closed" if live is None else f"version {live.snapshot.version}, {len(self._resources)} resources"
        return f"<Mesh {self.workload.name} {state}>"

    def _after_fork(self) -> None:
        """In a forked child: locks may be held by threads that do not exist here, and the watcher thread is gone."""
        self._lock = threading.RLock()
        self._changing = threading.RLock()
        self._waiting = 0
        self._objects = ObjectMemo()
        self._compiler = Compiler(self.workload, https_rules=self._https_rules)  # the parent's may be amid its work
        source, serving = self._source, self._serving
        take_all((
            self._core.after_fork,
            *([] if serving is None else [serving.after_fork]),
            *([] if source is None else [lambda: source.after_fork(self._reload_watched)]),
        ))  # fmt: skip


def _from_objects(
    resources: Iterable[Mapping[str, Any]], memo: ObjectMemo | None = None
) -> tuple[list[Resource], list[Problem]]:
    result = load_objects(resources, memo=memo)
    _raise_errors(result.problems)
    return result.resources, result.problems


def _raise_errors(problems: Sequence[Problem]) -> None:
    if any(p.severity is Severity.ERROR for p in problems):
        raise ConfigError(problems)


def _settings(verify: Any, cert: Any, trust_env: bool, http2: bool, limits: Any) -> ClientSettings:
    return ClientSettings(verify, cert, trust_env, http2, None if limits is None else ClientLimits(limits))


def _grpcio() -> Any:
    try:
        import grpc
    except ImportError as error:
        raise MeshError("gRPC needs grpcio: pip install 'sidecarless[grpc]'") from error
    return grpc


def _after_fork_in_child() -> None:
    take_all([mesh._after_fork for mesh in list(_meshes)])


os.register_at_fork(after_in_child=_after_fork_in_child)
