"""Lists of resources that change step by step, for tests of what is made anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st


@st.composite
def lists_that_change(draw: st.DrawFn, variants: Sequence[Sequence[Any]], turns: int = 6) -> list[list[Any]]:
    """One list after the other. Of each row of variants at most one is in a list; from one list to the next some come (at
    any place), go, are replaced in place by another variant, or move."""
    rows = range(len(variants))
    there: dict[int, Any] = {}
    for row in draw(st.lists(st.sampled_from(rows), unique=True)):
        there[row] = draw(st.sampled_from(variants[row]))
    made = [list(there.values())]
    for _ in range(draw(st.integers(1, turns))):
        for _ in range(draw(st.integers(1, 2))):
            row = draw(st.sampled_from(rows))
            what = draw(st.sampled_from(("put", "put", "go", "move")))
            if what == "put" and row in there:
                there[row] = draw(st.sampled_from(variants[row]))
            elif what == "put" or (what == "move" and row in there):
                thing = there.pop(row, None) or draw(st.sampled_from(variants[row]))
                items = list(there.items())
                items.insert(draw(st.integers(0, len(items))), (row, thing))
                there = dict(items)
            else:
                there.pop(row, None)
        made.append(list(there.values()))
    return made
