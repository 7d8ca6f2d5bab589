"""``meshlib proxy``."""

from __future__ import annotations

import logging
import os

import click

from meshlib.cli.options import EXIT_PROBLEMS, PLACE, identity_options, make_identity
from meshlib.cli.serve import _mesh, _workload


@click.command(
    epilog="""\b
Examples:
  meshlib proxy --config mesh/ --outbound 127.0.0.1:15001
  curl -x http://127.0.0.1:15001 http://reviews:9080/reviews/0
"""
)
@click.option(
    "--config", "configs", multiple=True, type=PLACE, metavar="PATH",
    help="File, folder or glob of resources. Repeatable.  [env: MESHLIB_CONFIG]",
)  # fmt: skip
@click.option(
    "--outbound", required=True, metavar="HOST:PORT", help="Address that the application sends its requests to."
)
@identity_options
@click.option("--workload", metavar="NAME", help="Name of this workload.  [env: MESHLIB_WORKLOAD]")
@click.option("--namespace", "-n", help="Namespace of this workload.  [env: MESHLIB_NAMESPACE]")
@click.option(
    "--labels", metavar="K=V,K=V", help="Labels of this workload, which policies select it by.  [env: MESHLIB_LABELS]"
)
@click.option(
    "--service-account", metavar="NAME", help="Service account of this workload.  [env: MESHLIB_SERVICE_ACCOUNT]"
)
@click.option(
    "--drain",
    default=5,
    show_default=True,
    type=click.IntRange(0),
    help="Seconds that requests in flight have to finish after SIGTERM.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Log level.",
)
def proxy(
    configs: tuple[str, ...],
    outbound: str,
    cert: str | None,
    key: str | None,
    bundles: tuple[str, ...],
    workload: str | None,
    namespace: str | None,
    labels: str | None,
    service_account: str | None,
    drain: int,
    log_level: str,
) -> None:
    """Forward the HTTP requests of an application that is not Python: routing, retries, timeouts and the rest, as the
    resources of the mesh say. SIGTERM stops it once requests in flight have finished."""
    from meshlib.problems import MeshError

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    paths = configs or tuple(filter(None, os.environ.get("MESHLIB_CONFIG", "").split(os.pathsep)))
    if not paths:
        raise click.UsageError("give the resources of the mesh: --config mesh/, or MESHLIB_CONFIG")
    host, colon, port = outbound.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--outbound {outbound!r} is not HOST:PORT; write it as 127.0.0.1:15001")
    named = {
        "MESHLIB_WORKLOAD": workload,
        "MESHLIB_NAMESPACE": namespace,
        "MESHLIB_LABELS": labels,
        "MESHLIB_SERVICE_ACCOUNT": service_account,
    }
    try:
        from meshlib.proxy.process import ProxySettings, run
        from meshlib.serving.serve import listen

        who = _workload({name: value for name, value in named.items() if value is not None})
        sock = listen(host.strip("[]"), int(port), "--outbound")
        with sock, _mesh(paths, who, make_identity(cert, key, bundles, wait=True), None) as mesh:
            run(mesh, sock, ProxySettings(drain), lambda: _say(sock.getsockname()))
    except MeshError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(EXIT_PROBLEMS) from None


def _say(address: tuple[str, int]) -> None:
    logging.getLogger("meshlib.proxy").info("forwarding, listening on %s:%d as process %d", *address[:2], os.getpid())
