"""``meshlib proxy``."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import click

from meshlib.cli.options import EXIT_PROBLEMS, PLACE, identity_options, make_identity
from meshlib.cli.serve import _mesh, _workload

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from meshlib.mesh import Mesh
    from meshlib.proxy.options import ProxyOptions
    from meshlib.proxy.process import Inbound


@click.command(
    epilog="""\b
Examples:
  meshlib proxy --config mesh/ --outbound 127.0.0.1:15001
  curl -x http://127.0.0.1:15001 http://reviews:9080/reviews/0
  meshlib proxy --config mesh/ --inbound 0.0.0.0:15006 --app 127.0.0.1:8080 --cert cert.pem --key key.pem --bundle ca.pem
"""
)
@click.option(
    "--config", "configs", multiple=True, type=PLACE, metavar="PATH",
    help="File, folder or glob of resources. Repeatable.  [env: MESHLIB_CONFIG]",
)  # fmt: skip
@click.option(
    "--outbound",
    multiple=True,
    metavar="HOST:PORT",
    help="Address that the application sends its requests to. Repeatable.",
)
@click.option(
    "--inbound",
    multiple=True,
    metavar="HOST:PORT",
    help="Address that the application is called at, over TLS or in plain text as PeerAuthentication says. Each with an --app.",
)
@click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="HOST:PORT|unix:PATH",
    help="Where the application behind the --inbound before it listens, in plain text.",
)
@click.option(
    "--app-port",
    "app_ports",
    multiple=True,
    type=click.IntRange(1, 65535),
    help="The port by which policies know the application of an --app unix:PATH. Repeatable, in their order.",
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
    outbound: tuple[str, ...],
    inbound: tuple[str, ...],
    apps: tuple[str, ...],
    app_ports: tuple[int, ...],
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
    """Forward the HTTP requests of an application that is not Python, and those to it: routing, retries, timeouts, mTLS,
    authorization and the rest, as the resources of the mesh say. SIGTERM stops it once requests in flight have finished."""
    from meshlib.problems import MeshError
    from meshlib.proxy.options import Given, WrongOptions, checked

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    paths = configs or tuple(filter(None, os.environ.get("MESHLIB_CONFIG", "").split(os.pathsep)))
    try:
        options = checked(Given(paths, outbound, inbound, apps, app_ports, drain=drain))
    except WrongOptions as error:
        raise click.UsageError(str(error)) from None
    for note in options.notes:
        logging.getLogger("meshlib.proxy").warning("%s", note)
    named = {
        "MESHLIB_WORKLOAD": workload,
        "MESHLIB_NAMESPACE": namespace,
        "MESHLIB_LABELS": labels,
        "MESHLIB_SERVICE_ACCOUNT": service_account,
    }
    try:
        who = _workload({name: value for name, value in named.items() if value is not None})
        _run(options, lambda: _mesh(paths, who, make_identity(cert, key, bundles, wait=True), None))
    except MeshError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(EXIT_PROBLEMS) from None


def _run(options: ProxyOptions, make_mesh: Callable[[], Mesh]) -> None:
    from meshlib.proxy.inbound_application import address_of
    from meshlib.proxy.process import Inbound, ProxySettings, run
    from meshlib.proxy.sockets import listening

    with contextlib.ExitStack() as stack:
        outbound = [stack.enter_context(listening(place, "--outbound")[0]) for place in options.outbound]
        inbound = [
            Inbound(stack.enter_context(listening(pair.listen, "--inbound")[0]), address_of(pair))
            for pair in options.inbound
        ]
        mesh = stack.enter_context(make_mesh())
        run(mesh, outbound, ProxySettings(options.drain), lambda: _say(outbound, inbound), inbound)


def _say(outbound: Sequence[socket.socket], inbound: Sequence[Inbound]) -> None:
    log, pid = logging.getLogger("meshlib.proxy"), os.getpid()
    for sock in outbound:
        log.info("forwarding, listening on %s as process %d", _address(sock), pid)
    for each in inbound:
        log.info("serving %s, listening on %s as process %d", each.app, _address(each.sock), pid)


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
