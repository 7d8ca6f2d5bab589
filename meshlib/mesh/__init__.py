"""``Mesh``: what users hold. A source of resources, the compiled snapshot, the live state, and the doors to use them.

What reads, compiles and calls is imported when a mesh is made or asked, not here: a program that merely imports ``Mesh`` pays
for none of pydantic, PyYAML, httpx and the compiler (``python -m benchmarks --only import``). What public methods return is
known at run time, too: frameworks look at it when a method becomes a route."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from meshlib.clock import SystemClock
from meshlib.engine.explanation import Exchange
from meshlib.engine.inbound_explanation import InboundExplanation
from meshlib.identity.agreement import disagreements, named_by_certificate
from meshlib.mesh.access_log import at_work, log_calls, log_options, log_served
from meshlib.mesh.admin import admin_of, check_admin
from meshlib.mesh.configuration import Configuration, loaded_objects, raise_errors
from meshlib.mesh.doors import Doors
from meshlib.mesh.metric_export import check_exporter
from meshlib.mesh.options import MeshOptions, takes_options
from meshlib.problems import MeshError, Problem
from meshlib.progress import shown
from meshlib.transport.upstream.forked import take_all
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.alarms import Alarms
    from meshlib.clock import Clock
    from meshlib.resources.base import Resource
    from meshlib.resources.endpoints_argument import EndpointsByHost
    from meshlib.sources.files import FileSource
    from meshlib.telemetry.observe import InboundTelemetry

log = logging.getLogger("meshlib.config")


class Mesh(Doors):
    """A client's view of the mesh.

    Make one with ``from_path``, ``from_yaml``, ``from_resources`` or ``from_env``. It can be shared between threads, event
    loops and forked children.

    ``workload`` says who this client is (``meshlib.Workload``). ``seed`` makes every random choice reproducible; ``clock``
    replaces time (for tests). ``retry_wait`` is a tenacity wait strategy that replaces the routes' own backoff. ``registry``
    is the prometheus_client registry for metrics, and ``tracer_provider`` the OpenTelemetry provider for spans; both default
    to the global ones.

    ``https_rules`` says how https URLs are routed. "mesh": by the http rules of their host, before the caller's TLS starts.
    "istio": as a sidecar does, which sees only TLS: by ``tls`` rules, else by the service, and never by http rules.

    ``identity`` (``meshlib.Identity``) is the certificate that this process shows and the roots that it trusts. mTLS needs
    one. It belongs to this mesh, which watches and closes it.

    ``endpoints`` gives addresses by host, or by host and subset, such as ``{"reviews": {"v1": "localhost:9081"}}``, with hosts
    written as in a VirtualService in the workload's namespace. They replace all other endpoints of those hosts, and a host
    that no resource defines becomes a service (docs/endpoints.md). ``endpoints="dns"``, inside Kubernetes, calls services that
    have no endpoints at their DNS name. Raises ``ConfigError`` for an address that is not valid, and for a subset that no
    DestinationRule has.

    ``admin`` lets a person look into the running process (docs/admin.md): "unix" (a socket in the user's runtime folder),
    "unix:PATH" ("{pid}" in it stands for the process), or a loopback address such as "127.0.0.1:15000". None: there is
    nothing to connect to. Raises ``ConfigError`` for another address, and ``MeshError`` when it cannot be listened at.

    ``automatic_addresses``, of ``meshlib proxy --dns-capture``: services without addresses get some, of 240.240.0.0/16 and
    2001:2::/48, which connections that the kernel leads to the proxy are told apart by.

    ``gateways`` is for ``meshlib proxy --gateway``: the process is a gateway, and serves these (``GatewayChoice``).

    ``metric_exporter`` exports the registry's metrics through OpenTelemetry's SDK (extra ``otel``): a ``MetricExporter`` of it,
    such as ``OTLPMetricExporter()``; every OTEL_METRIC_EXPORT_INTERVAL milliseconds, and when the mesh is closed. Give it to
    one mesh of a registry.

    ``envoy_metrics=True`` also shows the statistics of Envoy's clusters (``envoy_cluster_upstream_rq`` ...) by the names that
    a sidecar has, for alerts that exist (docs/observability.md).

    ``access_log`` writes a line for each call that is made or served (docs/access-log.md): to "stdout" or "stderr", to a file
    (its path), to a ``logging.Logger``, or to several of them, in addition to the logs that resources ask for.
    ``access_log_format`` is "text" (Istio's, the default), "envoy" or "json", a format in Envoy's operators, or a dict of
    such, for JSON. ``access_log_rate``, such as "1000/second", caps each log. Lines are written in the background; what a sink
    does not take is dropped and counted. Raises ``MeshError`` for a format that is not valid.
    """

    @takes_options()
    def __init__(
        self,
        resources: Sequence[Resource] = (),
        problems: Sequence[Problem] = (),
        *,
        source: FileSource | None = None,
        **options: Unpack[MeshOptions],
    ) -> None:
        from meshlib.alarms import Alarms

        clock, identity = options.get("clock") or SystemClock(), options.get("identity")
        alarms = Alarms(clock)
        if identity is not None:  # before all else: who we are may be what its certificate says
            identity.start(clock, alarms)
        try:
            self._set_up(resources, problems, source, clock, alarms, options)
        except BaseException:
            if identity is not None:  # it may be given to another mesh
                identity.close()
            alarms.close()
            raise

    def _set_up(
        self,
        resources: Sequence[Resource],
        problems: Sequence[Problem],
        source: FileSource | None,
        clock: Clock,
        alarms: Alarms,
        options: MeshOptions,
    ) -> None:
        """The rest of ``__init__``, with the identity started."""
        from meshlib.compiler.compile import HTTPS_RULES, Compiler
        from meshlib.engine.live import seeded
        from meshlib.mesh.alive import meshes
        from meshlib.mesh.registered import Registered
        from meshlib.telemetry.observe import Telemetry
        from meshlib.transport.core.mesh_core import MeshCore

        identity = options.get("identity")
        self.workload = named_by_certificate(options.get("workload") or Workload(), identity)
        self._lock = threading.RLock()
        self._disagreements: list[Problem] = []
        self._registry = options.get("registry")
        self._tracer_provider = options.get("tracer_provider")
        self._seed = options.get("seed")
        # what is wrong with options alone is told before there is anything that a registry would have to keep
        self._logging = log_options(
            options.get("access_log"), options.get("access_log_format"), options.get("access_log_rate")
        )
        https_rules = options.get("https_rules", HTTPS_RULES[0])
        if https_rules is None or https_rules not in HTTPS_RULES:
            raise MeshError(f"https_rules must be {' or '.join(map(repr, HTTPS_RULES))}, not {https_rules!r}")
        endpoints = options.get("endpoints")
        local = [] if endpoints is None or endpoints == "dns" else _local(endpoints, self.workload)
        check_exporter(options.get("metric_exporter"))
        check_admin(options.get("admin"))
        with contextlib.ExitStack() as begun:  # what is ended again if the rest fails
            self._core = MeshCore(
                clock,
                seeded(options.get("seed")),
                options.get("retry_wait"),
                Telemetry(self._registry, self._tracer_provider, self.workload, clock.monotonic, options.get("seed")),
                alarms,
                identity,
            )
            begun.callback(self._core.close)
            self._core.logs = bool(self._logging)
            gateway = options.get("gateways") is not None
            log_calls(self._core.telemetry, clock, self._logging, at_work(self._core), gateway)
            self._serving: InboundTelemetry | None = None
            self._admin = admin_of(self, options.get("admin"), clock.monotonic())
            compiler = partial(
                Compiler,
                self.workload,
                https_rules=https_rules,
                dns=endpoints == "dns",  # what has no endpoints is called at its name
                gateways=options.get("gateways"),
                automatic=bool(options.get("automatic_addresses")),
            )
            me = weakref.ref(self)  # an identity may be given to another mesh, after this one
            self._configuration = Configuration(self._core, compiler, local, source, clock, lambda: _told_of(me))
            if identity is not None:
                identity.subscribe(lambda credentials: _told_of(me))
            self._configuration.begin(resources, problems)
            self._core.owner = self  # who holds a client holds the mesh, whose files it goes on following
            if options.get("envoy_metrics"):
                self._core.telemetry.count_codes()
            self._metrics = Registered(self, options)
            begun.callback(self.close)
            if source is not None:
                weakref.finalize(self, source.stop, wait=False).atexit = False
            if self._metrics.export is not None:
                weakref.finalize(self, self._metrics.export.close).atexit = False
            meshes.add(self)
            self._metrics.begin()
            if self._admin is not None:
                self._admin.start()
            begun.pop_all()

    # -- making one -------------------------------------------------------------------------------------------------

    @classmethod
    @takes_options()
    def from_path(cls, *paths: str | os.PathLike[str], watch: bool = True, **options: Unpack[MeshOptions]) -> Mesh:
        """A mesh with the resources in these files, folders or globs, which are read again when they change (``watch``).

        Raises ``ConfigError`` with every problem in every file if any of them has an error at the start. If a later edit
        breaks a resource, its last good version stays in force; the error is logged once and shown in ``status()``. A resource
        that disappears from a file stays in force for two more seconds. If a file or folder becomes empty, its resources
        stay in force until ``reload(accept_removals=True)``.
        """
        from meshlib.sources.files import FileSource

        options["clock"] = clock = options.get("clock") or SystemClock()
        source = FileSource(paths, clock)
        with shown(f"meshlib: loading {source}"):
            resources, problems = source.load()
            raise_errors(problems)
            mesh = cls(resources, problems, source=source, **options)
        if watch:
            mesh._configuration.watch()
        return mesh

    @classmethod
    @takes_options()
    def from_resources(cls, resources: Iterable[Mapping[str, object]], **options: Unpack[MeshOptions]) -> Mesh:
        """A mesh with resources given as dicts, as YAML would load them. Raises ``ConfigError`` with every problem."""
        from meshlib.resources.object_memo import ObjectMemo

        loaded, problems = loaded_objects(resources, memo := ObjectMemo())
        mesh = cls(loaded, problems, **options)
        mesh._configuration.objects = memo
        return mesh

    @classmethod
    @takes_options()
    def from_yaml(cls, text: str, **options: Unpack[MeshOptions]) -> Mesh:
        """A mesh with the resources in a YAML (or JSON) text, separated by ``---``. Raises ``ConfigError`` with every problem
        and its line in the text."""
        from meshlib.resources.loader import load_text

        result = load_text(text, "<yaml>")
        raise_errors(result.problems)
        return cls(result.resources, result.problems, **options)

    @classmethod
    @takes_options(https_rules=None)
    def from_env(cls, **options: Unpack[MeshOptions]) -> Mesh:
        """A mesh configured by environment variables.

        MESHLIB_CONFIG has the paths (separated as in PATH), MESHLIB_HTTPS_RULES and MESHLIB_ENDPOINTS the options of those
        names (endpoints as for ``meshlib local``: ``reviews=v1@:9081,v2@:9082 ratings=:9083``); other MESHLIB_* variables
        describe the workload. Its identity comes from the files MESHLIB_CERT, MESHLIB_KEY and MESHLIB_BUNDLE (``roots.pem``, or
        with other trust domains ``roots.pem:other.example=other.pem``), or from istiod: MESHLIB_CA, MESHLIB_CA_TOKEN and
        MESHLIB_CA_ROOT. MESHLIB_ADMIN is the option ``admin``, MESHLIB_ENVOY_METRICS=1 is ``envoy_metrics``,
        MESHLIB_ACCESS_LOG, MESHLIB_ACCESS_LOG_FORMAT and MESHLIB_ACCESS_LOG_RATE are those of these names,
        MESHLIB_OTLP_METRICS has the URL of the collector that a ``metric_exporter`` over OTLP sends to. Options that are passed
        take precedence.

        Raises ``MeshError`` if MESHLIB_CONFIG is not set, or if only some of the identity's variables are; ``ConfigError`` for
        errors in the files; ``BadCredentials`` for certificates that cannot be used.
        """
        from meshlib.mesh.environment import filled_in

        return cls.from_path(*filled_in(options, os.environ), **options)

    # -- configuration ----------------------------------------------------------------------------------------------

    def apply(self, resources: Iterable[Mapping[str, object]]) -> None:
        """Replace all resources at once, or none: if any has an error, raises ``ConfigError`` with every problem and keeps
        the last good configuration. Calls in flight finish with the configuration that they started with.

        The cost depends on what has changed since the last time, plus a comparison of each dict; resources made by
        ``load_objects`` are recognised by identity, without comparison."""
        self._configuration.apply(resources)

    def reload(self, *, accept_removals: bool = False) -> None:
        """Read the files again, even if their modification times have not changed.

        If an edit breaks a resource, its last good version stays in force; the rest takes effect. Resources also stay in
        force if their file or folder is now empty (an error in the log, ``status()`` and ``problems``), or if they disappeared
        from a file that changed within the last two seconds, which may be half written. ``accept_removals`` removes them;
        have a person check that first. Removals are logged as warnings. Raises ``MeshError`` for a mesh without files.
        """
        self._configuration.reload(by_hand=True, accept=accept_removals)

    @property
    def problems(self) -> list[Problem]:
        """Problems of the last load: errors in edits, warnings and notices. Also warnings if the certificate's namespace,
        service account or trust domain differs from the workload's, and notices of what a server does not tell that policies
        need (how long requests wait for a thread, which route was matched), once requests have come."""
        return [*self._configuration.problems, *self._disagreements, *self._core.notices.problems()]

    def _compare_identity(self) -> None:
        """On a certificate or a configuration that is new. What differs is logged once."""
        identity, live = self._core.identity, self._core.live
        current = None if identity is None else identity.latest
        if identity is None or live is None or current is None:
            return
        mesh = live.snapshot.inbound.default.mesh
        found = disagreements(
            current.svid.identity, self.workload, mesh.trust_domain, mesh.trust_domain_aliases, identity.what
        )
        with self._lock:
            before, self._disagreements = self._disagreements, found
        for problem in found:
            if problem not in before:
                log.warning("%s", problem)

    def _telemetry_of_servers(self) -> InboundTelemetry:
        from meshlib.telemetry.observe import InboundTelemetry

        with self._lock:
            if self._serving is None:
                self._serving = InboundTelemetry(
                    self._registry, self._tracer_provider, self.workload, self._core.clock.monotonic, self._seed
                )
                if self._admin is not None:
                    self._admin.serve(self._serving)
                log_served(self._serving, self._core.clock, self._logging, at_work(self._core))
                self._core.serve_with(self._serving)
            return self._serving

    # -- looking ----------------------------------------------------------------------------------------------------

    def explain(self, *, method: str = "GET", url: str = "/", headers: Mapping[str, str] | None = None) -> Exchange:
        """What would happen to this call, and why: the rule that matches, each earlier rule with the reason why it does not,
        and the weights, endpoints, retries, timeouts and faults that apply. Sends nothing.

        For a gRPC call, ``url`` is ``grpc://ratings:9080/package.Service/Method`` (``grpcs://`` with channel credentials) and
        ``headers`` has its metadata (``:authority`` is the option ``grpc.default_authority``); ``method`` is ignored. Raises
        ``MeshError`` for a URL that cannot be called, and when the mesh is closed."""
        from meshlib.mesh.explaining import explain_url

        live = self._core.live
        if live is None:
            raise MeshError("the mesh is closed")
        identity = self._core.identity
        current = identity.current() if identity is not None else None
        certificate = current.svid.identity.text if current is not None else ""
        return explain_url(live, self._core.clock.monotonic(), method, url, headers or {}, certificate)

    def explain_inbound(
        self,
        *,
        method: str | None = None,
        path: str = "/",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        host: str | None = None,
        principal: str = "",
        source_ip: str = "",
        port: int = 0,
        sni: str = "",
        destination_ip: str = "",
        protocol: str = "http",
        claims: Mapping[str, object] | None = None,
    ) -> InboundExplanation:
        """What would happen to this request if this workload received it, and why: the AuthorizationPolicy that allows or
        denies it, and why each other one does not. Serves nothing, and calls no authorizer or issuer.

        ``method`` defaults to POST for gRPC and GET otherwise. ``path`` is as in a request line, with its query. ``protocol``
        is http, http2, https, grpc or grpc-web. ``principal`` is the SPIFFE ID of the peer's certificate, with or without
        ``spiffe://``; "" means plain text. ``claims`` are those of its verified token; None means that it has none. ``port``,
        ``source_ip``, ``destination_ip`` and ``sni`` describe the connection, ``host`` is the Host header. What is left out is
        unknown and counts against the caller, as with a server that does not report it. Raises ``MeshError`` for values that
        no request can have, and when the mesh is closed."""
        from meshlib.mesh.explaining_inbound import explain_request, request_of

        live = self._core.live
        if live is None:
            raise MeshError("the mesh is closed")
        request, notes = request_of(
            method=method,
            path=path,
            headers=headers,
            host=host,
            principal=principal,
            source_ip=source_ip,
            port=port,
            sni=sni,
            destination_ip=destination_ip,
            protocol=protocol,
            claims=claims,
        )
        return explain_request(live, request, notes, self.workload, self._configuration.resources)

    def flush_access_logs(self, timeout: float = 5.0) -> bool:
        """Wait until the lines of all calls that are over are written, at most ``timeout`` seconds for each log. False: they
        are not. Nobody needs this but tests: lines are written by themselves, at the latest when the process ends."""
        serving = self._serving
        done = self._core.telemetry.flush_logs(timeout)
        return (serving is None or serving.flush_logs(timeout)) and done

    def status(self) -> dict[str, Any]:
        """The state of this mesh as plain data: the configuration's version, for how many seconds it has been in force, its
        sources and problems; clusters in use with their limits, budgets, pools and endpoints, and those with their health and
        ejections; certificates; breakers; what has failed, and what telemetry had to drop."""
        from meshlib.mesh.status import status_of

        source = self._configuration.status()
        admin = None if self._admin is None else self._admin.status()
        numbers = self._metrics.shown.numbers()
        return status_of(self._core, self._serving, self.workload, source, self.problems, numbers, admin)

    def describe(self) -> dict[str, Any]:
        """Everything that this client could call, whether it has or not: virtual hosts (``tcp``: connections are forwarded,
        and http rules do not apply) and clusters with their endpoints. ``status`` shows only what is in use."""
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
        """Stop watching files and close every connection. Idempotent, and callable from any thread.

        Calls in flight fail at once with ``ClosedMeanwhile``, in every thread and on every event loop, whatever they are
        waiting for (a connection, a response, the rest of a body, a slot, a backoff), and are not retried. Later calls raise
        ``MeshClosed``. To let calls finish, wait for them first. In threads the caller's own code cannot be interrupted: an
        iterator that yields a request's body, an ``inner`` transport.
        """
        if self._configuration.source is not None:
            self._configuration.source.stop()
        if self._admin is not None:
            self._admin.close()
        self._metrics.files.close()
        self._configuration.close()
        if self._serving is not None:
            self._serving.catch_up()
        self._metrics.end()

    async def aclose(self) -> None:
        """``close`` for asyncio: when it returns, the connections of the running loop are closed."""
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
        state = (
            "closed"
            if live is None
            else f"version {live.snapshot.version}, {len(self._configuration.resources)} resources"
        )
        return f"<Mesh {self.workload.name} {state}>"

    def _after_fork(self) -> None:
        """In a forked child: locks may be held by threads that do not exist here."""
        self._lock = threading.RLock()
        self._configuration.after_fork()
        serving = self._serving
        take_all((
            self._core.after_fork,
            *([] if serving is None else [serving.after_fork]),
            self._configuration.watch_after_fork,
            *([] if self._admin is None else [self._admin.after_fork]),
            self._metrics.files.after_fork,
        ))  # fmt: skip


def _told_of(mesh: weakref.ref[Mesh]) -> None:
    found = mesh()
    if found is not None:
        found._compare_identity()


def _local(endpoints: EndpointsByHost, workload: Workload) -> list[Resource]:
    """``endpoints=`` as a resource."""
    from meshlib.resources.endpoints_argument import local_endpoints

    return [local_endpoints(endpoints, workload.namespace)]
