"""``meshlib bench``."""

from __future__ import annotations

import click

from meshlib.cli.bench_compare import compare
from meshlib.cli.bench_report import report


@click.group()
def bench() -> None:
    """Tell what meshlib costs, and compare two reports of it."""


bench.add_command(compare)
bench.add_command(report)
