"""``meshlib bench report``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from meshlib.cli.bench_compare import FILE, read


@click.command(
    epilog="""\b
Examples:
  meshlib bench report all.json --html all.html
  meshlib bench report all.json > all.html

\b
The page needs no network and runs no script but its own. Exit code: 0 written, 2 wrong usage or a file that is not a report.
"""
)
@click.argument("file", type=FILE, metavar="REPORT.json")
@click.option("--html", "into", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not to the output.")
def report(file: Path, into: Path | None) -> None:
    """Draw a report of meshlib bench as one HTML page: plots, tables, what was lost; light and dark."""
    from meshlib.bench.page import page

    made = page(read(file))
    if into is None:
        sys.stdout.write(made)
        return
    try:
        into.write_text(made, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--html {into}: it cannot be written: {error.strerror or error}") from None
    click.echo(f"written: {into}")
