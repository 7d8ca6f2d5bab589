"""Printing: colours and tables on a terminal, plain lines when piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def printable(text: str) -> str:
    """What a terminal may be given of texts that others have written."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: rich on a terminal, tab-separated with a header when piped."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        made = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for column in columns:
            made.add_column(column, overflow="fold")
        for row in rows:
            made.add_row(*row)
        Console(markup=False, highlight=False).print(made)
        return
    if title:
        click.echo(f"# {title}")
    click.echo("\t".join(columns))
    for row in rows:
        click.echo("\t".join(row))
