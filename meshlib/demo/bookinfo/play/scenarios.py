"""Istio's Bookinfo scenarios: the file to apply, and by hand what a visitor must then see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshlib.demo.bookinfo import CONFIG
from meshlib.demo.bookinfo.play.probe import ANYONE, UNAVAILABLE

JASON = "jason"
FEW = 3


@dataclass(frozen=True, slots=True)
class Expectation:
    """Probability of each word of ``probe`` for reviews. ``slow`` says that one look takes seconds: then only a few are
    taken; ``seconds`` bounds how long each takes (from, to); of ``flags`` at least one must be seen
    in productpage's calls."""

    reviews: Mapping[str, float]
    slow: bool = False
    seconds: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """``asked`` is the YAML's essence in a sentence; ``users`` who looks, and what each must see."""

    title: str
    file: str
    asked: str
    users: Mapping[str, Expectation]

    @property
    def path(self) -> Path:
        return CONFIG / "scenarios" / self.file


def _only(word: str, **more: object) -> Expectation:
    return Expectation({word: 1.0}, **more)  # type: ignore[arg-type]


SCENARIOS = (
    Scenario(
        "all traffic to v1",
        "01-all-v1.yaml",
        "every service -> v1",
        {ANYONE: _only("v1"), JASON: _only("v1")},
    ),
    Scenario(
        "canary 90/10",
        "02-reviews-90-10.yaml",
        "reviews -> v1 90 %, v2 10 %",
        {ANYONE: Expectation({"v1": 0.9, "v2": 0.1})},
    ),
    Scenario(
        "canary 80/20",
        "03-reviews-80-20.yaml",
        "reviews -> v1 80 %, v2 20 %",
        {ANYONE: Expectation({"v1": 0.8, "v2": 0.2})},
    ),
    Scenario(
        "half v1, half v3",
        "04-reviews-50-50-v3.yaml",
        "reviews -> v1 50 %, v3 50 %",
        {ANYONE: Expectation({"v1": 0.5, "v3": 0.5})},
    ),
    Scenario(
        "test user jason to v2",
        "05-jason-v2.yaml",
        "reviews -> v2 for end-user jason, else v1",
        {ANYONE: _only("v1"), JASON: _only("v2")},
    ),
    Scenario(
        "v2 for some, v3 for others",
        "06-jason-v2-others-v3.yaml",
        "reviews -> v2 for end-user jason, else v3",
        {ANYONE: _only("v3"), JASON: _only("v2")},
    ),
    Scenario(
        "ratings 7 s late for jason",
        "07-ratings-delay-jason.yaml",
        "ratings: delay 7 s for jason; productpage waits 3 s for reviews, twice",
        {ANYONE: _only("v1"), JASON: _only(UNAVAILABLE, slow=True, seconds=(5.8, 9.0), flags=("DC",))},
    ),
    Scenario(
        "ratings aborted for jason",
        "08-ratings-abort-jason.yaml",
        "ratings: abort 500 for jason",
        {ANYONE: _only("v1"), JASON: _only("v2 without ratings")},
    ),
)
