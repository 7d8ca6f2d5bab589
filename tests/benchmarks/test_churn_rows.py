"""Handshakes leave nothing behind. (``python -m benchmarks --only churn`` makes 10,000.)"""

from __future__ import annotations

import pytest

from benchmarks.churn_rows import TARGET, churn

pytest.importorskip("uvicorn", reason="uvicorn is not installed: no server to be called")

pytestmark = pytest.mark.slow


def test_five_hundred_handshakes_leave_memory_where_it_was() -> None:
    rows = churn(quick=True)
    assert [row.target for row in rows] == [TARGET] * 2
    for row in rows:
        assert row.met, f"{row.name}: {row.value:.2f} ({row.details})"
