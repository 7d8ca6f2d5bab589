"""The ``demo`` group of the command line."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def demo() -> None:
    """Applications that show meshlib at work."""


@demo.command(
    epilog="""\b
Examples:
  meshlib demo bookinfo                      play all scenarios, then leave the page up
  meshlib demo bookinfo --once               the same, and end (for CI; under a minute)
  meshlib demo bookinfo --config my-mesh/    play your own VirtualService files over it
"""
)
@click.option("--once", is_flag=True, help="End after the scenarios instead of leaving the page up.")
@click.option(
    "--config",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Play every file of this folder of Istio resources, unmodified, instead of the built-in scenarios.",
)
@click.option(
    "--requests", type=click.IntRange(min=1), default=200, show_default=True, help="Looks for each observation."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9080,
    show_default=True,
    help="The page's port; any free one if taken.",
)
def bookinfo(once: bool, config: Path | None, requests: int, port: int) -> None:
    """Bookinfo on Istio's YAML: starts six processes on loopback and swaps their routes while they run.

    Each scenario prints what was asked, what was observed and a verdict. Exit code 0: all pass; 1: some fail; 2: it
    could not be played.
    """
    from meshlib.demo.bookinfo.runner import run

    raise SystemExit(run(once=once, config=config, requests=requests, port=port))


@demo.command(
    epilog="""\b
Examples:
  meshlib demo grpc              play all scenarios, then leave the shop open
  meshlib demo grpc --once       the same, and end (for CI; under 40 s)
"""
)
@click.option("--once", is_flag=True, help="End after the scenarios instead of leaving the shop open.")
@click.option("--calls", type=click.IntRange(min=1), default=200, show_default=True, help="Calls for each count.")
def grpc(once: bool, calls: int) -> None:
    """A shop over gRPC: starts four processes on loopback and plays routes, streams, failures and deadlines.

    Each scenario prints what was asked, what was observed and a verdict. Exit code 0: all pass; 1: some fail; 2: it
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
@click.option("--once", is_flag=True, help="Rotate every 2 s instead of 5, to end sooner.")
def secure(once: bool) -> None:
    """Bookinfo with identities: STRICT mTLS by a CA of our own whose certificates rotate, a JWT on the page, ratings only from
    reviews, a real Envoy that calls and is called, and a change of the root, all on loopback.

    Each scene prints what was asked, what was observed and a verdict; it ends by itself. Exit code 0: all pass; 1: some fail;
    2: it could not be played.
    """
    from meshlib.demo.secure.runner import run

    raise SystemExit(run(once=once))
