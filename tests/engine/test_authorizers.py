"""What is known of authorizers: counted by provider, reported when one begins to fail and when it decides again."""

from __future__ import annotations

from meshlib.engine.authorizers import Authorizers


def test_every_question_is_counted_by_provider() -> None:
    known = Authorizers()
    known.decided("a", allowed=True)
    known.decided("a", allowed=False)
    known.failed("b", "it is dead", let_in=True)
    known.failed("b", "it is slow", let_in=False)
    assert known.facts() == {
        "a": {"allowed": 1, "denied": 1, "failed": 0, "let_in": 0, "failing": False, "why": ""},
        "b": {"allowed": 0, "denied": 0, "failed": 2, "let_in": 1, "failing": True, "why": "it is slow"},
    }


def test_trouble_is_told_when_it_begins_and_when_it_ends() -> None:
    known = Authorizers()
    told: list[tuple[str, str]] = []
    known.report = lambda provider, why: told.append((provider, why))
    for why in ("it is dead", "it is slow"):
        known.failed("a", why, let_in=False)
    known.decided("b", allowed=True)
    known.decided("a", allowed=False)
    known.decided("a", allowed=True)
    known.failed("a", "again", let_in=False)
    assert told == [("a", "it is dead"), ("a", ""), ("a", "again")]
