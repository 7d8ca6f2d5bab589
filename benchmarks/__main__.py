"""``python -m benchmarks [--only NAME ...] [--quick] [--json FILE]``."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.measure import Row
from benchmarks.rows import ROWS as CALLS
from benchmarks.scene_rows import SCENE_ROWS
from benchmarks.token_rows import token_costs

ROWS = {**CALLS, "tokens": token_costs, **SCENE_ROWS}
GROUPS = {
    "proxy": tuple(name for name in ROWS if name.startswith("proxy-")),
    "bench": tuple(SCENE_ROWS),
}
"""Names of several."""


@click.command()
@click.option("--only", multiple=True, type=click.Choice([*ROWS, *GROUPS]), help="Just these; repeatable.")
@click.option("--quick", is_flag=True, help="Fewer rounds: under a minute, rougher figures.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows here.")
def main(only: tuple[str, ...], quick: bool, file: Path | None) -> None:
    """Measure the figures. Costs are also told in ``json.loads`` of a small object in the same run ("6.1 json"), so that
    machines compare. Exit code 0 whether or not targets are met: these are measurements, not tests."""
    rows: list[Row] = []
    wanted = {name for each in only for name in GROUPS.get(each, (each,))}
    for name, measure in ROWS.items():
        if name not in wanted if wanted else name in SCENE_ROWS:  # by name alone, as they take as long as all others
            continue
        if sys.stderr.isatty():
            click.echo(f"measuring {name} ...", err=True)
        for row in measure(quick):
            rows.append(row)
            click.echo(_line(row))
    if file is not None:
        file.write_text(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2) + "\n")


def _line(row: Row) -> str:
    target = ""
    if row.target is not None:
        target = f"{'<=' if row.lower_is_better else '>='} {row.target:g} {row.unit}  {'met' if row.met else 'MISSED'}"
    units = "" if row.json is None else f"{row.json:.1f} json"
    return f"{row.name:<64} {row.value:>8.2f} {row.unit:<3} {units:>12} {target:<20} {row.details}".rstrip()


def _told_to_end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _told_to_end)  # the processes that were started end, too
    main()
