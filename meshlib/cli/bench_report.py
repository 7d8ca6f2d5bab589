"""``meshlib bench report``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from meshlib.cli.bench_compare import FILE, read
from meshlib.cli.bench_files import check_writable, is_stdout, is_stream, write_file, write_stream


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

    if into is not None:
        check_writable("--html", into)
    made = page(read(file))
    try:
        if into is None:
            sys.stdout.write(made)
            sys.stdout.flush()
        elif is_stream(into):
            write_stream(into, made)
        else:
            write_file(into, made)
    except BrokenPipeError:
        raise  # click's: nobody reads any more
    except OSError as error:
        where = "standard output" if into is None else f"--html {into}"
        raise click.UsageError(f"{where}: it cannot be written: {error.strerror or error}") from None
    if into is not None:
        click.echo(f"written: {into}", err=is_stdout(into))
