"""``meshlib bench``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import click

from meshlib.cli.bench_compare import compare
from meshlib.cli.bench_files import check_writable, is_stdout, is_stream, write_file, write_stream
from meshlib.cli.bench_report import report as report_command
from meshlib.cli.options import Finite

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

    from meshlib.bench.plan import Pace
    from meshlib.bench.result import Report
    from meshlib.bench.run import Progress

FILE = click.Path(dir_okay=False, path_type=Path)
WIDTH = 140
"""Columns of what is not a terminal."""
_NOHUP = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
HEEDED = (signal.SIGINT, signal.SIGTERM) if _NOHUP else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run: a terminal that is closed, too, but for ``nohup``."""


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  meshlib bench --quick                    under a minute: httpx, aiohttp and gRPC, bare, through meshlib, one Envoy
  meshlib bench --json all.json --html all.html     everything; 80 minutes
  meshlib bench --only library --rounds 41
  meshlib bench compare before.json after.json

\b
What is not installed is left out, and said. Ctrl-C ends it: what was measured until then is shown and written.
Exit code: 0 measured; 1 a process ended by itself while it was measured, nothing was, or a report could not be written;
2 wrong usage; 130 Ctrl-C, 143 SIGTERM, 129 the terminal was closed.
How to read it: docs/benchmark.md.
""",
)
@click.option("--quick", is_flag=True, help="Only what is asked first; under a minute.")
@click.option("--only", type=click.Choice(["library", "grpc", "proxy", "servers", "scale"]), help="Just these rows.")
@click.option(
    "--json",
    "json_file",
    type=FILE,
    help="Write the report here, after each part and at the end; /dev/stdout, FIFO: once.",
)
@click.option("--html", "html_file", type=FILE, help="Write it as a page with plots here, likewise.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Rounds of each row (gRPC: twice as many, half as long).  [default: 11, quick 7]",
)
@click.option("--seconds", type=Finite(0.01), help="Seconds of a round.  [default: 0.5, quick 0.3]")
@click.pass_context
def bench(
    context: click.Context,
    quick: bool,
    only: str | None,
    json_file: Path | None,
    html_file: Path | None,
    rounds: int | None,
    seconds: float | None,
) -> None:
    """Measure on this machine what meshlib costs: beside the same calls without a mesh, beside what one writes by hand, and
    beside sidecars (a real Envoy, meshlib proxy)."""
    if context.invoked_subcommand is not None:
        return
    if sys.platform != "linux":
        raise click.UsageError(
            f"meshlib bench runs on Linux only, not on {sys.platform}: it reads CPU time and memory of other processes from "
            "/proc, and needs the loopback addresses 127.0.0.2 to 127.0.0.4; in a container of Linux it works"
        )
    for option, file in (("--json", json_file), ("--html", html_file)):
        if file is not None:
            check_writable(option, file)
    _obey(_not_begun)
    from meshlib.bench import plan, scale
    from meshlib.bench.page import page
    from meshlib.bench.result import Report
    from meshlib.bench.run import run

    usual = plan.QUICK if quick else plan.FULL
    pace = plan.Pace(rounds or usual.rounds, seconds or usual.seconds)

    made: tuple[tuple[Path | None, Callable[[Report], str]], ...] = ((json_file, Report.to_json), (html_file, page))
    wanted = [(file, text) for file, text in made if file is not None]
    files = [each for each in wanted if not is_stream(each[0])]
    streams = [each for each in wanted if is_stream(each[0])]
    unwritten = dict[Path, str]()

    def write(file: Path, text: str, into: Callable[[Path, str], None]) -> None:
        try:
            into(file, text)
            unwritten.pop(file, None)
        except OSError as error:  # a full disk does not cost what is measured
            unwritten[file] = error.strerror or str(error)

    def kept(report: Report) -> None:
        for file, text in files:
            write(file, text(report), write_file)

    parts = plan.quick(only) if quick else plan.full(only)
    # a quick run has no time for them, unless they are what is asked for
    sizes = scale.steps(quick) if only == scale.GROUP or (only is None and not quick) else []
    _obey(_interrupted)
    with _progress() as progress:
        report, code = run(parts, pace, progress, kept, quick=quick, sizes=sizes)
    taken = any(is_stdout(file) for file, _ in streams)  # a report goes there, and nothing else
    _show(report, pace, sys.stderr if taken else sys.stdout)
    _obey(signal.SIG_DFL)  # a FIFO may be one that nobody reads
    for file, text in streams:
        write(file, text(report), write_stream)
    for file, _ in wanted:
        if file in unwritten:
            click.echo(f"not written: {file}: {unwritten[file]}", err=True)
        else:
            click.echo(f"written: {file}", err=taken)
    raise SystemExit(code or (1 if unwritten else 0))


bench.add_command(compare)
bench.add_command(report_command)


def _obey(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    for each in HEEDED:
        signal.signal(each, handler)


def _not_begun(number: int, _frame: object) -> None:
    """Nothing runs that would have to be ended. At once, and not by an exception: out of an import it comes as another (a
    SchemaError of pydantic's), with a traceback."""
    os.write(2, b"interrupted: nothing was measured\n")
    os._exit(128 + number)


def _interrupted(number: int, _frame: object) -> None:
    """Once: what follows is the end of what runs, which is not to be disturbed."""
    _obey(signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def _show(report: Report, pace: Pace, out: TextIO) -> None:
    """Tables, and what follows from them."""
    from rich.console import Console
    from rich.table import Table

    from meshlib.bench import scale, told

    console = Console(file=out, width=None if out.isatty() else WIDTH, highlight=False, markup=False)
    grown = [row for row in report.rows if row.group == scale.GROUP]
    others = [row for row in report.rows if row.group != scale.GROUP]
    for where, rows in told.by_conditions(others).items():
        table = Table(
            title=where, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
        )
        for n, column in enumerate(told.COLUMNS):
            table.add_column(column, justify="left" if n == 0 else "right", no_wrap=n > 0)
        for row in rows:
            table.add_row(*told.cells(row, rows))
        _print_whole(table, console)
        console.print()
    if others:
        console.print(f"{told.LEGEND}\n")
    if grown:
        table = Table(
            title="scale", title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
        )
        for n, column in enumerate(scale.COLUMNS):
            table.add_column(column, justify="left" if n == 0 else "right", no_wrap=True)
        for row in grown:
            table.add_row(*scale.cells(row))
        _print_whole(table, console)
        console.print(f"\n{scale.LEGEND}\n")
    for title, sentences in (("What follows", told.sentences(report, pace)), ("Notes", list(report.notes))):
        if sentences:
            console.print(title, style="bold")
            for each in sentences:
                console.print(f"- {each}", soft_wrap=not out.isatty())
            console.print()


def _print_whole(table: Table, console: Console) -> None:
    """A terminal that is too narrow breaks the lines of a table by itself: figures without their row's name say nothing."""
    from rich.console import Console
    from rich.measure import Measurement

    needed = Measurement.get(console, console.options.update(max_width=WIDTH), table).minimum
    if needed > console.width:
        console = Console(file=console.file, width=needed, highlight=False, markup=False, soft_wrap=True)
    console.print(table)


class _Lines:
    """Progress in a pipe or a log: a line for each step."""

    def __init__(self) -> None:
        self._left = 0.0

    def begin(self, seconds: float) -> None:
        self._left = seconds

    def say(self, sentence: str) -> None:
        left = f"{self._left / 60:.0f} min" if self._left >= 120 else f"{self._left:.0f} s"
        click.echo(f"[{left} left] {sentence}", err=True)

    def advance(self, seconds: float) -> None:
        self._left = max(0.0, self._left - seconds)


class _Bar:
    """Progress on a terminal."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def begin(self, seconds: float) -> None:
        self._bar.update(self._task, total=seconds)

    def say(self, sentence: str) -> None:
        self._bar.update(self._task, description=sentence)

    def advance(self, seconds: float) -> None:
        self._bar.advance(self._task, seconds)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task("starting", total=None))
