"""Match blocks: every condition must hold, and a block that does not match says which one fails."""

from __future__ import annotations

from hypothesis import given, settings

from tests.support.match_blocks import blocks, views


@settings(max_examples=300, deadline=None)
@given(blocks, views)
def test_a_block_says_why_exactly_when_it_does_not_match(block, view):
    match = block.compile()
    assert (match.why_not(view) is None) == match(view)
