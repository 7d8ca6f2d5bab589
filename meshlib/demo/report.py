"""What the demo prints: each scenario as it is played, and a table at the end. Plain text when piped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDE = 110
PASS, FAIL, SKIP = "pass", "FAIL", "not played"
_STYLE = {PASS: "bold green", FAIL: "bold red", SKIP: "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One observation and its verdict. ``why`` lists what contradicts the expectation (or why it was not played)."""

    who: str
    expected: str
    observed: str
    verdict: str
    why: tuple[str, ...] = ()


@dataclass(slots=True)
class Chapter:
    """One scenario or file."""

    title: str
    file: str
    asked: str
    rows: list[Row] = field(default_factory=list)


class Report:
    """Prints as it goes; ``failed`` counts the verdicts that are not as asked."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            # piped: no wrapping at 80 columns, which would tear lines that tools look for
            self.console = Console(file=self.console.file, width=160, highlight=False, no_color=True)
        self.chapters: list[Chapter] = []

    @property
    def failed(self) -> int:
        return sum(row.verdict == FAIL for chapter in self.chapters for row in chapter.rows)

    @property
    def judged(self) -> int:
        return sum(row.verdict != SKIP for chapter in self.chapters for row in chapter.rows)

    def say(self, text: str) -> None:
        """A line for people; no markup."""
        self.console.print(escape(text))

    def say_whole(self, text: str) -> None:
        """The same for what is to be copied: a terminal wraps it, and nothing else does."""
        self.console.print(escape(text), soft_wrap=True)

    def begin(self, title: str, file: str, asked: str) -> None:
        """A new scenario or file."""
        self.chapters.append(Chapter(title, file, asked))
        number = len(self.chapters)
        where = f"  [dim]{escape(file)}[/dim]" if file else ""
        self.console.print(f"\n[bold]{number}. {escape(title)}[/bold]{where}")
        self.console.print(f"   asked     {escape(asked)}", soft_wrap=True)

    def row(self, row: Row) -> None:
        """An observation of the current scenario."""
        self.chapters[-1].rows.append(row)
        style = _STYLE[row.verdict]
        who = f"{row.who}: " if row.who else ""
        observed = row.observed or "; ".join(row.why)
        self.console.print(f"   observed  {escape(who + observed)}  [{style}]{row.verdict}[/{style}]", soft_wrap=True)
        if row.verdict == FAIL:
            for reason in row.why:
                self.console.print(f"             [red]{escape(reason)}[/red]", soft_wrap=True)

    def table(self) -> None:
        """All verdicts at a glance."""
        table = Table(box=box.ROUNDED if self.console.is_terminal else box.ASCII2, show_lines=False, pad_edge=True)
        wide = self.console.width >= WIDE  # else expected, which the text above has said, gives way
        table.add_column("#", justify="right", style="dim", no_wrap=True)
        table.add_column("scenario", overflow="fold")
        table.add_column("who", overflow="fold")
        if wide:
            table.add_column("expected", overflow="fold")
        table.add_column("observed", overflow="fold", ratio=1)
        table.add_column("verdict", no_wrap=True)
        for number, chapter in enumerate(self.chapters, 1):
            for at, row in enumerate(chapter.rows):
                head = (str(number), escape(chapter.title)) if at == 0 else ("", "")
                expected = (escape(row.expected),) if wide else ()
                verdict = f"[{_STYLE[row.verdict]}]{row.verdict}[/]"
                shown = row.observed or "; ".join(row.why)
                table.add_row(*head, escape(row.who), *expected, escape(shown), verdict)
        self.console.print()
        self.console.print(table)
        count = f"{self.judged - self.failed} of {self.judged} verdicts pass"
        skipped = sum(row.verdict == SKIP for chapter in self.chapters for row in chapter.rows)
        count += f", {skipped} loaded and not played" if skipped else ""
        self.console.print(f"[{'bold red' if self.failed else 'bold green'}]{count}[/]")


def counts(observed: Mapping[str, int]) -> str:
    """``v1 181, v2 19``, most frequent first."""
    return ", ".join(f"{word} {n}" for word, n in sorted(observed.items(), key=lambda item: (-item[1], item[0])))


def shares(expected: Mapping[str, float]) -> str:
    """``v1 90 %, v2 10 %``, largest first."""
    ranked = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(word if p >= 1 else f"{word} {p * 100:.3g} %" for word, p in ranked if p > 0)


def who(user: str) -> str:
    """The visitor's name in reports."""
    return user or "anyone"


def verdict(why: Sequence[str]) -> str:
    return FAIL if why else PASS
