"""``meshlib serve``."""

from __future__ import annotations

import os

import click

from meshlib.cli.log_level import log_to_stderr
from meshlib.cli.options import (
    EXIT_PROBLEMS,
    FOLDER,
    PLACE,
    identity_options,
    make_identity,
    own_workload,
    own_workload_options,
)
from meshlib.cli.own_mesh import make_mesh


@click.command(
    epilog="""\b
Examples:
  meshlib serve shop:app --config mesh/ --namespace shop --labels app=orders
  meshlib serve shop:app --wsgi --port 8080 --workers 4 --config mesh/
  meshlib serve shop:app --config mesh/ --cert cert.pem --key key.pem --bundle bundle.pem --health-port 8081
"""
)
@click.argument("target", metavar="MODULE:APP")
@click.option("--wsgi", is_flag=True, help="Serve a WSGI application (Flask, Django) instead of an ASGI one.")
@click.option("--factory", is_flag=True, help="Treat MODULE:APP as a function that returns the application.")
@click.option(
    "--app-dir",
    default=".",
    show_default=True,
    type=FOLDER,
    metavar="DIR",
    help="Directory to look for MODULE in first.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 or :: for all addresses."
)
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--config", "configs", multiple=True, type=PLACE, metavar="PATH",
    help="File, folder or glob of resources. Repeatable.  [env: MESHLIB_CONFIG]",
)  # fmt: skip
@identity_options
@own_workload_options
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 1024), help="Number of worker processes."
)
@click.option(
    "--threads",
    default=40,
    show_default=True,
    type=click.IntRange(1, 10000),
    help="Number of threads for a WSGI application.",
)
@click.option(
    "--drain",
    default=30,
    show_default=True,
    type=click.IntRange(0),
    help="Seconds that requests in flight have to finish after SIGTERM.",
)
@click.option(
    "--keep-alive",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Seconds after which an idle connection is closed.",
)
@click.option(
    "--health-path", metavar="PATH",
    help='Health check path, served before any policy: 200, or 503 while not ready. "" disables it.  '
    "[default: /healthz, unless the application has it]",
)  # fmt: skip
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    help="Extra plain text port that serves only the health check, for probes under STRICT.",
)
@click.option(
    "--http",
    type=click.Choice(["auto", "h11", "httptools"]),
    default="auto",
    show_default=True,
    help="HTTP/1.1 parser.",
)
@click.option("--http2", is_flag=True, help="Also serve HTTP/2; needs a uvicorn version that supports it, and zttp.")
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="Event loop implementation.",
)
@click.option(
    "--root-path", default="", metavar="PATH", help="Path under which a proxy in front mounts the application."
)
@click.option(
    "--admin", metavar="unix|unix:PATH|HOST:PORT", envvar="MESHLIB_ADMIN", show_envvar=True,
    help="Where each worker shows its state (docs/admin.md): write unix, or {pid} into the path, for several workers.",
)  # fmt: skip
@click.option(
    "--access-log/--no-access-log",
    default=True,
    show_default=True,
    help="Log uvicorn's line for each request. MESHLIB_ACCESS_LOG has the mesh's own (docs/access-log.md).",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Log level.",
)
def serve(
    target: str,
    wsgi: bool,
    factory: bool,
    app_dir: str,
    host: str,
    port: int,
    configs: tuple[str, ...],
    cert: str | None,
    key: str | None,
    bundles: tuple[str, ...],
    workload: str | None,
    namespace: str | None,
    labels: str | None,
    service_account: str | None,
    workers: int,
    threads: int,
    drain: int,
    keep_alive: int,
    health_path: str | None,
    health_port: int | None,
    http: str,
    http2: bool,
    loop: str,
    root_path: str,
    admin: str | None,
    access_log: bool,
    log_level: str,
) -> None:
    """Serve an application and enforce what a sidecar would: AuthorizationPolicy, RequestAuthentication, PeerAuthentication
    and the rest. One port takes both TLS and plain text, as PeerAuthentication allows. Changes to certificates and
    resources take effect while it runs. SIGTERM stops it once requests in flight have finished; SIGHUP reloads resources, and
    SIGUSR1 opens the files of access logs again."""
    from meshlib.problems import MeshError

    log_to_stderr(log_level)
    paths = configs or tuple(filter(None, os.environ.get("MESHLIB_CONFIG", "").split(os.pathsep)))
    if not paths:
        raise click.UsageError("give the resources of the mesh: --config mesh/, or MESHLIB_CONFIG")
    if health_path and not health_path.startswith("/"):
        raise click.UsageError(f"--health-path {health_path!r} is not a path; write it as /{health_path}")
    if admin:
        _check_admin(admin, workers)
    make_identity(cert, key, bundles)
    try:
        from meshlib.serving.serve import ServeOptions, require_uvicorn
        from meshlib.serving.serve import serve as run

        require_uvicorn()
        from meshlib.serving.http_server import HttpSettings

        who = own_workload(workload, namespace, labels, service_account)
        options = ServeOptions(target, host, port, wsgi, factory, app_dir, threads, workers, health_path, health_port)
        settings = HttpSettings(
            http=http,
            loop=loop,
            http2=http2,
            drain=drain,
            keep_alive=keep_alive,
            access_log=access_log,
            root_path=root_path,
        )
        code = run(
            options,
            settings,
            lambda: make_mesh(paths, who, make_identity(cert, key, bundles, wait=True), admin or None),
        )
    except MeshError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(EXIT_PROBLEMS) from None
    raise SystemExit(code)


def _check_admin(given: str, workers: int) -> None:
    """A usage error for what cannot be an address, and for one that several workers would want at once."""
    from meshlib.admin.address import TcpAddress, parse_address
    from meshlib.problems import ConfigError

    try:
        found = parse_address(given, "--admin")
    except ConfigError as error:
        problem = error.problems[0]
        raise click.UsageError(f"--admin {problem.message}\n  {problem.hint}") from error
    shared = not found.each_process and not (isinstance(found, TcpAddress) and found.port == 0)
    if workers > 1 and shared:
        raise click.UsageError(
            f"--admin {given}: only one of {workers} workers could listen there; write unix, or unix:PATH with {{pid}}"
        )
