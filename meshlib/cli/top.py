"""``meshlib top``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from meshlib.cli.attached import PROCESS, attached, fail
from meshlib.cli.options import SECONDS
from meshlib.cli.output import printable, table
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from rich.table import Table

    from meshlib.admin.attach import Attached
    from meshlib.cli.rates import HostRate

COLUMNS = ("host", "", "calls/s", "errors", "p50 ms", "p99 ms", "in flight", "endpoints", "ejected")


@click.command(
    epilog="""\b
Examples:
  meshlib top
  meshlib top 4711
  meshlib top /run/app/admin.sock --interval 5s
  meshlib top 127.0.0.1:15000 --once -o json | jq '.hosts[] | select(.errors > 0)'

\b
Rates, errors and percentiles are those of the last interval. Percentiles are read from the histogram of the metrics
(istio_request_duration_milliseconds), as histogram_quantile of Prometheus does: they are as coarse as its buckets.
"""
)
@click.argument("target", required=False, type=PROCESS, metavar="[PID|SOCKET|HOST:PORT]")
@click.option("--interval", type=SECONDS, default="2s", show_default=True, help="Time between two looks.")
@click.option("--once", is_flag=True, help="Print one interval and exit.")
@click.option(
    "-o", "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Output format; json prints a line for each interval.",
)  # fmt: skip
def top(target: str | None, interval: float, once: bool, style: str) -> None:
    """Show how the calls of a running process do, by host: calls a second, errors, durations, ejections.

    Needs the process's admin endpoint (docs/admin.md). Without an argument it is the only process of yours that has one."""
    from meshlib.clock import rest

    at = attached(target)
    try:
        before = at.json("/hosts")
        if once or style == "json" or not sys.stdout.isatty():
            while True:
                rest(interval)
                after = at.json("/hosts")
                _print(at, before, after, style)
                if once:
                    return
                before = after
        _live(at, before, interval)
    except KeyboardInterrupt:
        return
    except MeshError as error:
        fail(error)


def _print(at: Attached, before: dict[str, Any], after: dict[str, Any], style: str) -> None:
    from meshlib.cli.rates import rates

    found = rates(before, after)
    if style == "json":
        click.echo(
            json.dumps({"process": str(at), "workload": after["workload"], "hosts": [each.to_dict() for each in found]})
        )
        return
    table("", COLUMNS, [row(each) for each in found])


def row(rate: HostRate) -> list[str]:
    """What is shown of a host."""
    made = rate.direction == "made"
    return [
        printable(rate.host),
        "" if made else "served",
        f"{rate.calls_per_second:.1f}",
        f"{rate.errors:.1%}" if rate.errors else "-",
        _milliseconds(rate.p50),
        _milliseconds(rate.p99),
        str(rate.active) if made else "-",
        str(rate.endpoints) if made else "-",
        str(rate.ejected) if rate.ejected else "-",
    ]


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _live(at: Attached, before: dict[str, Any], interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from meshlib.cli.rates import rates
    from meshlib.clock import rest

    after = before
    with Live(_table(at, after, []), console=Console(markup=False, highlight=False), auto_refresh=False) as live:
        while True:
            rest(interval)
            after = at.json("/hosts")
            live.update(_table(at, after, rates(before, after)), refresh=True)
            before = after


def _table(at: Attached, seen: dict[str, Any], found: list[HostRate]) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = f"{printable(str(seen['workload']))}  {at}" + ("" if found else "  (waiting for the first interval)")
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        made.add_column(column, justify="left" if number < 2 else "right", overflow="fold")
    for each in found:
        style = "red" if each.errors >= 0.05 or each.ejected else ""
        made.add_row(*(Text(cell, style) for cell in row(each)))
    return made
