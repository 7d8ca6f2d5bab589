"""The ``demo`` group of the command line."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def demo() -> None:
    """Run demo applications that show meshlib at work."""


@demo.command(
    epilog="""\b
Examples:
  meshlib demo bookinfo                      play all scenarios, then leave the page up
  meshlib demo bookinfo --once               the same, then exit (for CI; under a minute)
  meshlib demo bookinfo --config my-mesh/    play your own VirtualService files over it
  meshlib demo bookinfo --otlp http://127.0.0.1:4318    and send its traces to a Jaeger
"""
)
@click.option("--once", is_flag=True, help="Exit after the scenarios instead of leaving the page up.")
@click.option(
    "--config",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Play every file in this folder of Istio resources, unmodified, instead of the built-in scenarios.",
)
@click.option(
    "--requests", type=click.IntRange(min=1), default=200, show_default=True, help="Requests for each observation."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9080,
    show_default=True,
    help="Port of the page; a free one is picked if it is taken.",
)
@click.option(
    "--otlp",
    metavar="URL",
    default="",
    help="Send spans to this OTLP receiver: http://127.0.0.1:4318 of a Jaeger, say.",
)
def bookinfo(once: bool, config: Path | None, requests: int, port: int, otlp: str) -> None:
    """Bookinfo on Istio's YAML: starts six processes on loopback and swaps their routes while they run.

    Each scenario prints what was expected, what was observed and a verdict. Exit code 0: all pass; 1: some fail; 2: it
    could not be played.
    """
    from meshlib.demo.bookinfo.runner import run

    raise SystemExit(run(once=once, config=config, requests=requests, port=port, otlp=otlp))


@demo.command(
    epilog="""\b
Examples:
  meshlib demo grpc              play all scenarios, then leave the shop open
  meshlib demo grpc --once       the same, then exit (for CI; under 40 s)
"""
)
@click.option("--once", is_flag=True, help="Exit after the scenarios instead of leaving the shop open.")
@click.option("--calls", type=click.IntRange(min=1), default=200, show_default=True, help="Calls for each observation.")
def grpc(once: bool, calls: int) -> None:
    """A shop over gRPC: starts four processes on loopback and plays routes, streams, failures and deadlines.

    Each scenario prints what was expected, what was observed and a verdict. Exit code 0: all pass; 1: some fail; 2: it
    could not be played.
    """
    from meshlib.demo.shop.runner import run

    raise SystemExit(run(once=once, calls=calls))


@demo.command(
    epilog="""\b
Examples:
  meshlib demo secure              a rotation every 5 s
  meshlib demo secure --once       the same, faster (for CI; under a minute)
"""
)
@click.option("--once", is_flag=True, help="Rotate every 2 s instead of every 5, to finish sooner.")
def secure(once: bool) -> None:
    """Bookinfo with identities: STRICT mTLS from a CA of its own with rotating certificates, a JWT on the page, ratings for
    reviews only, a real Envoy as client and server, and a rotation of the root, all on loopback.

    Each scene prints what was expected, what was observed and a verdict; the demo exits by itself. Exit code 0: all pass;
    1: some fail; 2: it could not be played.
    """
    from meshlib.demo.secure.runner import run

    raise SystemExit(run(once=once))


@demo.command(
    epilog="""\b
Examples:
  meshlib demo sidecar             play all scenarios, then leave the application up
  meshlib demo sidecar --once      the same, then exit (for CI; about a minute, as root two)
  meshlib demo sidecar --engine envoy       the same verdicts with a real Envoy in each proxy
  meshlib demo sidecar --mode explicit      only with services that know the address of their proxy
"""
)
@click.option("--once", is_flag=True, help="Exit after the scenarios instead of leaving the application up.")
@click.option(
    "--requests", type=click.IntRange(min=1), default=200, show_default=True, help="Requests for each observation."
)
@click.option(
    "--mode",
    type=click.Choice(("both", "explicit", "transparent")),
    default="both",
    show_default=True,
    help="explicit: services know their proxy. transparent: the kernel leads connections to it, in network namespaces; as "
    "root, with iptables. both: transparent first, where it can be had.",
)
@click.option(
    "--engine",
    type=click.Choice(("meshlib", "envoy")),
    default="meshlib",
    show_default=True,
    help="What all proxies forward with; envoy: a real Envoy each (docs/engine-envoy.md).",
)
def sidecar(once: bool, requests: int, mode: str, engine: str) -> None:
    """Bookinfo of services that know nothing of the mesh, each behind a `meshlib proxy`, with the scenarios of the demo
    bookinfo. Visitors come in through an ingress gateway with TLS, and what the services call outside of the mesh leaves
    through an egress gateway: fifteen processes on loopback.

    Each scenario prints what was expected, what was observed and a verdict. Exit code 0: all pass; 1: some fail; 2: it
    could not be played.
    """
    from meshlib.demo.sidecar.runner import run

    raise SystemExit(run(once=once, requests=requests, mode=mode, engine=engine))
