"""``meshlib bench compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshlib.cli.options import Finite
from meshlib.cli.output import printable, table

if TYPE_CHECKING:
    from meshlib.bench.compare import Comparison, Comparisons
    from meshlib.bench.result import Report, Row

FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
COLUMNS = ("", "row", "measure", "before", "after", "change", "between", "")


@click.command(
    epilog="""\b
Examples:
  meshlib bench --json before.json; pip install ...; meshlib bench --json after.json
  meshlib bench compare before.json after.json
  meshlib bench compare before.json after.json --measure cpu/1000 --margin 5 || echo slower
  meshlib bench compare before.json after.json -o json | jq '.compared[] | select(.verdict == "worse")'

\b
Verdicts, at 95 % confidence, from all ratios of a round after to a round before:
  faster, less      the interval of the change leaves out "none", and it is larger than the margin
  slower, more      the same, to the worse
  same              the whole interval is within the margin
  cannot tell       anything else, with how many more rounds might tell

\b
Exit code: 0 nothing is worse, 1 something is, 2 wrong usage, a file that is not a report, or no row that both have.
Two runs at different times differ by what the machine did meanwhile, too: before a verdict matters, measure in turn
(before, after, before, after) and compare each pair.
"""
)
@click.argument("before", type=FILE, metavar="A.json")
@click.argument("after", type=FILE, metavar="B.json")
@click.option(
    "--measure", "measures", multiple=True, metavar="NAME", help="Only this measure (p50, cpu/1000 ...); repeatable."
)
@click.option(
    "--margin", type=Finite(0, 100, min_open=True), default=2.0, show_default=True,
    help="Changes of a median that are smaller, in percent, do not matter.",
)  # fmt: skip
@click.option("-o", "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def compare(before: Path, after: Path, measures: tuple[str, ...], margin: float, style: str) -> None:
    """Compare two reports of meshlib bench, row by row, with a verdict that respects noise. A is before, B after."""
    from meshlib.bench.compare import Verdict
    from meshlib.bench.compare import compare as compared

    one, two = read(before), read(after)
    known = {name for report in (one, two) for row in report.rows for name in row.measures}
    unknown = [name for name in measures if name not in known]
    if unknown:
        raise click.UsageError(f"no row has a measure {unknown[0]!r}; there are: {', '.join(sorted(known)) or 'none'}")
    found = compared(one, two, margin / 100, frozenset(measures))
    if style == "json":
        _print_json(found)
    else:
        _print(found)
    if not found.compared:
        raise SystemExit(2)  # who goes by the code has compared nothing
    raise SystemExit(1 if found.counts[Verdict.WORSE] else 0)


def read(file: Path) -> Report:
    """A report that ``meshlib bench --json`` wrote. UsageError: it is not one."""
    from meshlib.bench.result import Report, UnreadableReport

    try:
        with click.open_file(str(file), encoding="utf-8") as opened:
            return Report.from_json(opened.read(), printable(str(file)))
    except (UnreadableReport, OSError, UnicodeDecodeError) as error:
        said = f"{file} is not text in UTF-8: {error}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise click.UsageError(printable(said)) from None


def _print_json(found: Comparisons) -> None:
    click.echo(
        json.dumps(
            {
                "compared": [each.to_dict() for each in found.compared],
                "counts": {str(verdict): count for verdict, count in found.counts.items()},
                "warnings": list(found.warnings),
                "only_before": [_named(row) for row in found.only_before],
                "only_after": [_named(row) for row in found.only_after],
                "not_compared": list(found.not_compared),
            },
            indent=1,
        )
    )


def _print(found: Comparisons) -> None:
    for warning in found.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    table("", COLUMNS, [_line(each) for each in found.compared])
    for told, rows in (("only in A", found.only_before), ("only in B", found.only_after)):
        for row in rows:
            click.echo(f"{told}: {_named(row)}")
    for told in found.not_compared:
        click.echo(f"not compared: {printable(told)}")
    if not found.compared:
        click.echo("no row is in both reports: nothing to compare")
        return
    told = ", ".join(f"{count} {verdict}" for verdict, count in found.counts.items())
    chance = found.by_chance
    click.echo(
        f"{len(found.compared)} measures: {told}"
        + (f" (of so many, about {chance:.0f} would be told apart by chance alone)" if chance >= 0.5 else "")
    )


def _line(each: Comparison) -> list[str]:
    low, high = each.found.low, each.found.high
    return [
        each.word,
        _named(each.row),
        printable(each.measure),
        f"{_figure(each.before.median)} {printable(each.before.unit)}",
        f"{_figure(each.after.median)} {printable(each.after.unit)}",
        _percent(each.found.ratio),
        "" if low is None or high is None else f"{_percent(low)} .. {_percent(high)}",
        each.why,
    ]


def _named(row: Row) -> str:
    return printable(f"{row.group}: {row.name} ({row.conditions})")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f} %" if ratio < 10 else f"x {ratio:.3g}"
