"""The report's page: what is on it, that nothing in a report can run in it, and how a real browser shows it."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from meshlib.bench import rounds
from meshlib.bench.page import OTHERS, page
from meshlib.bench.result import CLOSED, CPU, MEMORY, P50, Measure, Report, Row
from tests.support.bench_report import made_up
from tests.support.browser import Page, browser, needs_browser

__all__ = ["browser"]

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
WIDE, NARROW = 1280, 390
ROW = Row(
    "library", "bare httpx", None, "asyncio", 32, 1024, False, 1, CLOSED, {CPU: Measure("s", (1.0, 1.1, 1.2, 1.3))}
)
EMPTY = Report("0.1.0", "", "2026-11-26T22:00:00Z", 1.0, True, {}, (), ())


class Seen(html.parser.HTMLParser):
    """Elements, those that are open, and ids."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.referred: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.referred += (named.get("aria-labelledby") or "").split()
        assert not any(name.startswith("on") for name in named)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_all_elements_are_closed_ids_are_unique_and_every_plot_has_a_title_and_a_description() -> None:
    seen = Seen(page(made_up()))
    assert seen.open == []
    assert len(seen.ids) == len(set(seen.ids))
    assert set(seen.referred) <= set(seen.ids)
    assert len(seen.referred) == 2 * sum("-t" in each for each in seen.ids)
    assert len(seen.referred) > 50


def test_every_kind_of_plot_and_each_group_is_there() -> None:
    made = page(made_up())
    for said in (
        "Latency by percentile", "CPU per 1,000 requests", "Memory", "by requests in flight", "by bytes of body", "by rules",
        "Time to compile by services", "Policy of a call by endpoints", "Stall of a reload by services",
        "Where meshlib is worse",        "HTTP clients", "gRPC clients", "Scale", "a made-up one",
    ):  # fmt: skip
        assert said in made, said


def test_what_is_measured_beside_has_a_title() -> None:
    assert {rounds.SERVER_CPU, rounds.GENERATOR_CPU, rounds.LATE} == OTHERS.keys()
    beside = replace(ROW, measures={name: Measure("s", (1.0,)) for name in OTHERS})
    assert all(title in page(replace(EMPTY, rows=(beside,))) for title in OTHERS.values())


def test_losses_and_notes_are_named() -> None:
    made = page(made_up())
    assert "httpx through meshlib, beside bare aiohttp" in made
    assert "httpx through meshlib, beside httpx through 2 Envoys" not in made
    assert "the machine was busy &lt;before&gt; the run &amp; after" in made


def test_a_fit_is_printed_with_its_exponent() -> None:
    assert re.search(
        r"exact paths: n\^[01]\.\d\d \(greater half n\^[01]\.\d\d\), R² 0\.9\d+: linearly", page(made_up())
    )


def test_nothing_of_a_report_is_markup() -> None:
    evil = replace(
        ROW,
        name=EVIL,
        world=EVIL,
        load=EVIL,
        axis="",
        measures={EVIL: Measure(EVIL, (1.0, 2.0, 3.0, 4.0)), CPU: Measure(EVIL, (1.0,))},
    )
    scale = replace(ROW, group="scale", name=EVIL, axis=EVIL, size=10, measures={"compile": Measure(EVIL, (1.0,))})
    report = replace(
        EMPTY,
        version=EVIL,
        commit=EVIL,
        at=EVIL,
        machine={EVIL: EVIL},
        notes=(EVIL,),
        rows=(evil, replace(evil, name="meshlib"), scale),
    )
    seen = Seen(page(report))
    assert seen.tags.count("script") == 1
    assert "img" not in seen.tags


def test_nothing_is_fetched() -> None:
    made = page(made_up())
    assert re.findall(r"(?:https?://|url\(|@import|src=)[^ <]*", made) == []
    assert "default-src &#x27;none&#x27;" in made


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (ROW,),
        (replace(ROW, measures={}),),
        (replace(ROW, measures={CPU: Measure("s", (0.0,))}, latencies=((1.0, 3),)),),
        (replace(ROW, measures={MEMORY: Measure("MB", (-1.0, 0.0))}),),
        (replace(ROW, measures={P50: Measure("ms", (1e-300, 1e300))}, latencies=((0.0, 30), (1e300, 30))),),
        (replace(ROW, name="x" * 300),),
        tuple(replace(ROW, in_flight=n, measures={CPU: Measure("s", (0.0,))}) for n in (0, 1)),
        tuple(
            replace(ROW, group="scale", axis="rules", size=n, measures={"compile": Measure("ms", (0.0,))})
            for n in (0, 10)
        ),
        tuple(
            replace(ROW, group="scale", axis="rules", size=n, measures={"compile": Measure("ms", (1.0,))})
            for n in (-5, 0)
        ),
        (replace(ROW, group="mechanisms", measures={"steps": Measure("steps", (7.0,))}),),
    ],
)
def test_any_report_makes_a_page(rows: tuple[Row, ...]) -> None:
    seen = Seen(page(replace(EMPTY, rows=rows)))
    assert seen.open == []
    assert "nan" not in page(replace(EMPTY, rows=rows)).lower().replace("resonan", "")


def test_a_report_without_rows_says_so() -> None:
    assert "nothing was measured" in page(EMPTY)


# -- in a real browser ------------------------------------------------------------------------------------------------

OVERFLOW = """(() => {
  const found = [];
  document.querySelectorAll("details").forEach(each => { each.open = true; });
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page is wider than the window");
  for (const each of document.querySelectorAll("main *:not(.scroll *)")) {
    const box = each.getBoundingClientRect();
    if (box.width && (box.right > innerWidth + 1 || box.left < -1))
      found.push(each.tagName + ": " + each.textContent.slice(0, 60));
  }
  for (const plot of document.querySelectorAll("svg.plot")) {
    const whole = plot.getBoundingClientRect();
    const boxes = [...plot.querySelectorAll("text")].map(each => [each.textContent, each.getBoundingClientRect()]);
    for (const [said, box] of boxes) {
      if (box.right > whole.right + 1 || box.left < whole.left - 1 || box.bottom > whole.bottom + 1 || box.top < whole.top - 1)
        found.push("outside its plot: " + said);
    }
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 4) found.push("on each other: " + boxes[i][0] + " | " + boxes[j][0]);
    }
  }
  return JSON.stringify(found);
})()"""


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_a_complaint_and_nothing_is_cut_off(
    browser: Page, tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(made_up()))
    browser.open(file.as_uri(), width=width, scheme=scheme)
    assert json.loads(browser.run(OVERFLOW)) == []
    assert browser.console == []
    assert browser.requests == []
    dark = browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 128)")
    assert dark is (scheme == "dark")
    assert browser.picture(tmp_path / "report.png").stat().st_size > 50_000


@needs_browser
def test_a_tip_is_shown_below_the_pointer_and_its_text_is_no_markup(browser: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(replace(EMPTY, rows=(replace(ROW, name=f"meshlib {EVIL}"),))))
    browser.open(file.as_uri())
    browser.run("document.querySelector('.bar').scrollIntoView({block: 'center'})")
    x, y = json.loads(
        browser.run(
            "(() => { const box = document.querySelector('.bar').getBoundingClientRect();"
            "return JSON.stringify([box.left + box.width / 3, box.top + 2]) })()"
        )
    )
    browser.press(x, y)
    tip = json.loads(
        browser.run("JSON.stringify([getComputedStyle(tip).visibility, tip.textContent, tip.children.length])")
    )
    assert tip[0] == "visible"
    assert "median 1.15 s, half of 4 rounds between 1.08 and 1.22" in tip[1]
    assert EVIL in tip[1]
    assert tip[2] == 0
    assert browser.console == []


@needs_browser
def test_what_runs_in_it_is_its_own_script_alone(browser: Page, tmp_path: Path) -> None:
    """Should an escape ever be forgotten: the policy still lets nothing run."""
    file = tmp_path / "report.html"
    file.write_text(
        page(EMPTY).replace("</main>", "<script>document.title = 'ran'</script><img src='http://x.invalid/y'></main>")
    )
    browser.open(file.as_uri())
    assert browser.run("document.title") == "What meshlib costs: 2026-11-26T22:00:00Z"
    assert len([each for each in browser.console if "Content Security Policy" in each]) == 2
