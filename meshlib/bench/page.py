"""The report as one HTML file: what was measured, beside each plot its table, and what was lost. Needs no network.

Texts of a report may be of anybody (it is a file): all are escaped, and the page's policy lets nothing run but its own script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import count

from meshlib.bench import plots, svg
from meshlib.bench.fit import Fit, power_law
from meshlib.bench.page_style import SCRIPT, STYLE, policy
from meshlib.bench.plots import Look
from meshlib.bench.result import (
    COMPILE,
    CPU,
    GROUPS,
    HELD,
    LOAD,
    LOOK_UP,
    MEMORY,
    P50,
    P90,
    P99,
    P999,
    RATE,
    STALL,
    Measure,
    Report,
    Row,
)
from meshlib.bench.series import OURS, Growth, Loss, against, growths, looks, losses, measured, scenes
from meshlib.bench.verdict import LEAST, Ratio

TITLES = {
    "library": "HTTP clients", "grpc": "gRPC clients", "proxy": "The proxy", "servers": "Servers", "scale": "Scale",
    "mechanisms": "Mechanisms of policy",
}  # fmt: skip
MEASURES = {
    CPU: "CPU per 1,000 requests", P50: "Latency, median", P90: "Latency, p90", P99: "Latency, p99", P999: "Latency, p99.9",
    RATE: "Requests a second", MEMORY: "Memory", LOAD: "Time to load", COMPILE: "Time to compile",
    HELD: "Memory of the snapshot",    LOOK_UP: "Policy of a call", STALL: "Stall of a reload",
}  # fmt: skip
OTHERS = {
    "server cpu/1000": "CPU of the server per 1,000 requests", "late p99": "How late calls began, p99",
    "generator cpu/1000": "CPU of the load generator per 1,000 requests",
}  # fmt: skip
"""What is measured beside (by ``rounds``, which a page of a file need not import), so that it is not taken for the rest."""
SHORT = {CPU: "CPU s per 1,000", RATE: "requests/s", MEMORY: "MB"}
"""In tables; the others by their own name, with its unit."""
SAID = {
    CPU: "Seconds of CPU time of all processes of the row; at 1,000 requests/s, so many cores are busy. Less is better.",
    MEMORY: "Proportional set size of all processes of the row. Less is better.",
    RATE: "As fast as they go, closed loop. More is better.",
    LOAD: "CPU time, from objects as YAML gives them to resources that were checked.",
    COMPILE: "CPU time, from resources to a snapshot.",
    HELD: "What the compiled snapshot keeps.",
    LOOK_UP: "CPU time of the whole exchange over a driver that responds at once: rule, cluster, endpoint, bookkeeping.",
    STALL: "CPU time of a reload of one change while 50 calls (one pass of them, in another thread) wait; the longest.",
}
ACROSS = {"in_flight": "requests in flight", "body": "bytes of body", "rules": "rules"}
GROWS = {"in_flight": (CPU, P50, RATE), "body": (CPU, P50), "rules": (CPU, P50)}
IN_TABLE = (CPU, P50, P90, P99, P999, RATE, MEMORY)


def page(report: Report) -> str:
    """All of it. What a run did not measure is not there."""
    return _Page(report).whole()


class _Page:
    """Numbers pictures, so that each has ids of its own."""

    __slots__ = ("_looks", "_numbers", "_report")

    def __init__(self, report: Report) -> None:
        self._report = report
        self._looks = looks(report.rows)
        self._numbers = count(1)

    def whole(self) -> str:
        groups = {name: [row for row in self._report.rows if row.group == name] for name in GROUPS}
        present = {name: rows for name, rows in groups.items() if rows}
        body = [self._header(present), self._notes(), self._cards(present), self._losses()]
        body += [self._group(name, rows) for name, rows in present.items()]
        body += [self._machine(), READING]
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'<title>What meshlib costs: {escape(self._report.at)}</title><link rel="icon" href="data:,">'
            f"<style>{STYLE}</style></head>\n<body><main>\n{chr(10).join(part for part in body if part)}\n</main>"
            f'<div id="tip" aria-hidden="true"></div><script>{SCRIPT}</script></body></html>\n'
        )

    def _header(self, groups: Mapping[str, object]) -> str:
        report = self._report
        minutes = f"{report.seconds / 60:.0f} min" if report.seconds >= 120 else f"{report.seconds:.0f} s"
        told = [
            f"meshlib {report.version}" + (f" at {report.commit}" if report.commit else ""), report.at, minutes,
            f"{len(report.rows):,} rows" + (", quick" if report.quick else ""),
        ]  # fmt: skip
        links = "".join(f'<a href="#{escape(name)}">{escape(TITLES[name])}</a>' for name in groups)
        nav = f'<nav aria-label="Parts">{links}<a href="#machine">Machine and method</a></nav>' if groups else ""
        return f"<header><h1>What meshlib costs, measured here</h1><p>{escape(' · '.join(told))}</p>{nav}</header>"

    def _notes(self) -> str:
        items = "".join(f"<li>{escape(note)}</li>" for note in self._report.notes)
        if not self._report.rows:
            items += "<li>nothing was measured: there are no rows</li>"
        if not items:
            return ""
        return f'<section class="notes"><h2>Left out, lost, or to be read with care</h2><ul>{items}</ul></section>'

    # -- in short -----------------------------------------------------------------------------------------------------

    def _cards(self, groups: Mapping[str, Sequence[Row]]) -> str:
        cards = [
            card
            for name, rows in groups.items()
            if name not in ("scale", "mechanisms")
            for card in _group_cards(name, rows)
        ]
        return f'<div class="cards">{"".join(cards)}</div>' if cards else ""

    def _losses(self) -> str:
        pairs: dict[tuple[str, str], dict[str, Loss]] = {}
        for loss in losses(self._report.rows):
            pairs.setdefault((loss.ours, loss.other), {})[loss.measure] = loss
        if not pairs:
            return ""
        shown = [name for name in IN_TABLE if any(name in found for found in pairs.values())]
        # in process before proxies, then the greatest loss first
        ordered = sorted(pairs.items(), key=lambda each: ("prox" in each[0][0], each[0][0]))
        body = [
            (False, [f"{ours}, beside {other}", *(_lost(found.get(name)) for name in shown)])
            for (ours, other), found in ordered
        ]
        table = _table(
            "The ratio in the worst conditions, and in how many of those that have both it is worse; told apart with nine "
            "chances in ten or better. Requests a second: less is worse; all else: more is.",
            ("", *(MEASURES[name] for name in shown)),
            body,
        )
        return (
            '<section><h2 id="losses">Where meshlib is worse</h2><p>Every pair that took turns and that the spread tells '
            f"apart, what has no mesh at all among them: nothing is free.</p><figure>{table}</figure></section>"
        )

    # -- groups -------------------------------------------------------------------------------------------------------

    def _group(self, name: str, rows: Sequence[Row]) -> str:
        title = f'<section><h2 id="{escape(name)}">{escape(TITLES[name])}</h2>'
        if name == "scale":
            return f"{title}{self._scale(rows)}</section>"
        parts = [self._grown(growth) for axis in GROWS for growth in growths(rows, axis)]
        grown = "".join(parts)
        for number, (conditions, together) in enumerate(scenes(rows).items()):
            is_open = " open" if number == 0 else ""
            told = escape(conditions) or "All"
            parts.append(f"<details{is_open}><summary>{told}</summary>{self._scene(conditions, together)}</details>")
        at = len(parts) - len(scenes(rows))
        return f"{title}{''.join(parts[at:])}{'<h3>Along a size</h3>' if grown else ''}{grown}</section>"

    def _scene(self, conditions: str, rows: Sequence[Row]) -> str:
        figures = []
        if any(plots.percentiles(row.latencies) for row in rows):
            drawn = plots.distribution(rows, self._looks, f"Latency by percentile: {conditions}", self._name())
            figures.append(
                _figure(
                    "Latency by percentile",
                    "Lower is better; a mark at each named percentile.",
                    drawn,
                    self._legend(rows),
                )
            )
        others = [name for name in {name: 0 for row in rows for name in row.measures} if name not in MEASURES]
        for measure in (CPU, P50, P99, RATE, MEMORY, *others):
            if measured(rows, measure):
                title = MEASURES.get(measure) or OTHERS.get(measure, measure)
                drawn = plots.bars(rows, measure, self._looks, f"{title}: {conditions}", self._name())
                said = SAID.get(measure, "Median; whiskers from quartile to quartile, a dot for each round.")
                figures.append(_figure(title, said, drawn))
        return f'<figure>{_scene_table(conditions, rows)}</figure><div class="figures">{"".join(figures)}</div>'

    def _grown(self, growth: Growth) -> str:
        figures = []
        for measure in GROWS[growth.axis]:
            series = [
                plots.Line(
                    name,
                    self._looks[name],
                    tuple((size, row.measures[measure]) for size, row in found if measure in row.measures),
                )
                for name, found in growth.rows.items()
            ]
            series = [line for line in series if len(line.points) >= 2]
            if series:
                title = f"{MEASURES[measure]} by {ACROSS[growth.axis]}"
                drawn = plots.lines(series, f"{title}: {growth.fixed}", self._name(), ACROSS[growth.axis])
                figures.append(_figure(title, growth.fixed, drawn, self._legend_of(series), _lines_table(series)))
        return f'<div class="figures">{"".join(figures)}</div>' if figures else ""

    def _scale(self, rows: Sequence[Row]) -> str:
        figures = []
        for axis in dict.fromkeys(row.axis for row in rows):
            for measure in (LOAD, COMPILE, HELD, LOOK_UP, STALL):
                found: dict[str, list[tuple[float, Measure]]] = {}
                for row, each in measured([row for row in rows if row.axis == axis], measure):
                    found.setdefault(row.name, []).append((row.size, each))
                series = [
                    plots.Line(name, self._looks[name], tuple(points), _fit(points)) for name, points in found.items()
                ]
                if series:
                    title = f"{MEASURES[measure]} by {axis}"
                    drawn = plots.lines(series, title, self._name(), axis)
                    fits = [f"{line.name}: {line.fit}" for line in series if line.fit is not None]
                    said = SAID[measure] + (" Dotted: the power law that fits best." if fits else "")
                    fitted = "".join(f"<li>{escape(each)}</li>" for each in fits)
                    legend = self._legend_of(series) + (f'<ul class="fits soft">{fitted}</ul>' if fits else "")
                    figures.append(_figure(title, said, drawn, legend, _lines_table(series)))
        return f'<div class="figures">{"".join(figures)}</div>'

    def _machine(self) -> str:
        facts = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(_fact(value))}</dd></div>"
            for name, value in self._report.machine.items()
        )
        return f'<section><h2 id="machine">Machine and method</h2><dl>{facts}</dl></section>'

    def _legend(self, rows: Sequence[Row]) -> str:
        return _legend({row.name: self._looks[row.name] for row in rows if row.latencies})

    def _legend_of(self, series: Sequence[plots.Line]) -> str:
        return _legend({line.name: line.look for line in series})

    def _name(self) -> str:
        return f"p{next(self._numbers)}"


READING = """<section><h3>How to read it</h3>
<p>Figures are medians of rounds in which all rows of one set of conditions took turns, so that what else the machine did hit
all alike. Ratios are medians of the ratios of paired rounds, with the interval in which the true one is with nine chances in
ten or better; ~ is before those whose interval has 1 in it: there the spread is larger than the difference, and nothing is
concluded.</p>
<p>In a closed loop, callers wait for a response before they ask again: a server that stalls is asked less, and its stall counts
once (coordinated omission). In an open loop, requests are due at a fixed rate, and a latency counts from when its request was
due. Percentiles that hang on fewer than 10 requests are not drawn.</p></section>"""


def _group_cards(group: str, rows: Sequence[Row]) -> Iterator[str]:
    """For each world the first conditions under load: what meshlib's CPU is, and what it is beside the others."""
    seen = set()
    by_load = sorted(scenes(rows).items(), key=lambda each: -(each[1][0].in_flight == 32))
    for conditions, together in by_load:
        ours = next((row for row in together if OURS in row.name and CPU in row.measures), None)
        if ours is None or ours.world in seen:
            continue
        seen.add(ours.world)
        found = [(other.name, against(ours, other, CPU)) for other in together if OURS not in other.name]
        items = "".join(f"<li>{_times(ratio)} of {escape(name)}</li>" for name, ratio in found if ratio is not None)
        yield (
            f'<div class="card"><h3>{escape(ours.name)}</h3><div class="big">{svg.number(ours.measures[CPU].median)} '
            f"<small>CPU s per 1,000 requests</small></div><ul>{items}</ul>"
            f'<p class="soft" style="font-size:.82rem;margin:.6rem 0 0">{escape(TITLES[group])}: {escape(conditions)}</p></div>'
        )


def _times(found: Ratio) -> str:
    """``1.06 (1.04 to 1.09)``; ~ before what is not told apart from 1."""
    text = f"{'' if found.told_apart else '~'}{svg.number(found.median)}"
    if found.rounds < LEAST:
        return f"{text} (too few rounds)"
    return f"{text} ({svg.number(found.low)} to {svg.number(found.high)})"


def _lost(loss: Loss | None) -> str:
    return "–" if loss is None else f"{svg.number(loss.found.median)} ({loss.worse} of {loss.all})"


def _scene_table(conditions: str, rows: Sequence[Row]) -> str:
    named = {row.name: row for row in rows}
    extra = [name for name in {name: 0 for row in rows for name in row.measures} if name not in IN_TABLE]
    shown = [name for name in (*IN_TABLE, *extra) if measured(rows, name)]
    columns = ["", *(SHORT.get(name, f"{name}, {measured(rows, name)[0][1].unit}") for name in shown)]
    at = 2 if CPU in shown else 1
    with_base = any(row.baseline in named for row in rows)
    if with_base:
        columns.insert(at, f"of the baseline's{' CPU' if CPU in shown else ''}")
    body = []
    for row in rows:
        cells = [row.name, *(svg.number(row.measures[name].median) if name in row.measures else "–" for name in shown)]
        if with_base:
            base = named.get(row.baseline or "")
            found = against(row, base, CPU if CPU in shown else shown[0]) if base is not None else None
            cells.insert(at, "baseline" if row.baseline is None else "–" if found is None else _times(found))
        body.append((OURS in row.name, cells))
    rounds = max((len(each.values) for row in rows for each in row.measures.values()), default=0)
    return _table(f"{conditions}: medians of {rounds} {'round' if rounds == 1 else 'rounds'}", columns, body)


def _lines_table(series: Sequence[plots.Line]) -> str:
    sizes = sorted({size for line in series for size, _ in line.points})
    unit = series[0].points[0][1].unit
    body = []
    for line in series:
        by_size = dict(line.points)
        body.append(
            (OURS in line.name, [line.name, *(svg.number(by_size[s].median) if s in by_size else "–" for s in sizes)])
        )
    return _table(f"medians, in {unit}", ("", *(f"{size:,.0f}" for size in sizes)), body)


def _table(caption: str, columns: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr{" class=ours" if ours else ""}><th scope="row">{escape(cells[0])}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in cells[1:])}</tr>"
        for ours, cells in rows
    )
    told = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{told}"><table><caption>{told}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(title: str, said: str, drawn: str, legend: str = "", table: str = "") -> str:
    told = f"<p>{escape(said)}</p>" if said else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption>{told}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(title)}, plot">{drawn}</div>{legend}{table}</figure>'
    )


def _legend(named: Mapping[str, Look]) -> str:
    items = "".join(f"<li>{plots.swatch(look)}{escape(name)}</li>" for name, look in named.items())
    return f'<ul class="legend">{items}</ul>'


def _fit(points: Sequence[tuple[float, Measure]]) -> Fit | None:
    return power_law([size for size, _ in points], [each.median for _, each in points])


def _fact(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,}"
