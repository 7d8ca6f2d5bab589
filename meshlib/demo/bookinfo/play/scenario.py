"""Plays one of our own scenarios: swap the file, look, compare with what was written down by hand."""

from __future__ import annotations

import httpx

from meshlib.demo.bookinfo.play.application import Application
from meshlib.demo.bookinfo.play.probe import Seen, look
from meshlib.demo.bookinfo.play.scenarios import FEW, Expectation, Scenario
from meshlib.demo.odds import misses
from meshlib.demo.report import Report, Row, counts, shares, verdict, who


async def play_scenario(
    app: Application, client: httpx.AsyncClient, report: Report, scenario: Scenario, requests: int
) -> None:
    """Apply, look as each user, report."""
    report.begin(scenario.title, scenario.file, scenario.asked)
    app.play(scenario.path.read_bytes())
    for user, wanted in scenario.users.items():
        n = FEW if wanted.slow else requests
        seen = await look(client, user, n)
        why = judge(seen, wanted)
        text = f"{n} looks: reviews {counts(seen.reviews)}"
        if wanted.slow:
            text += f", {seen.slowest:.1f} s (flags {counts(seen.flags)})"
        report.row(Row(who(user), f"reviews {shares(wanted.reviews)}", text, verdict(why), tuple(why)))


def judge(seen: Seen, wanted: Expectation) -> list[str]:
    """What contradicts the expectation; details must always be there."""
    why = misses(seen.reviews, wanted.reviews) + [f"details {m}" for m in misses(seen.details, {"v1": 1.0})]
    if wanted.seconds is not None:
        low, high = wanted.seconds
        odd = [s.seconds for s in seen.sights if not low <= s.seconds <= high]
        if odd:
            why.append(f"looks took {', '.join(f'{s:.1f} s' for s in odd)}, expected {low:g} to {high:g} s")
    if wanted.flags and not any(seen.flags[flag] for flag in wanted.flags):
        why.append(f"none of the flags {', '.join(wanted.flags)} was seen")
    return why
