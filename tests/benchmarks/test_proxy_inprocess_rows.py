"""The row of one request in process: it is forwarded without a task, and its steps of bytecode do not depend on the machine."""

from __future__ import annotations

from benchmarks.proxy_inprocess_rows import bytecodes, in_process


def test_steps_of_bytecode_are_counted():
    def one() -> int:
        return 1

    few, more = bytecodes(one), bytecodes(lambda: one() + one())
    assert 0 < few < more


def test_a_request_is_forwarded_over_kept_connections():
    few, many = in_process(quick=True)
    assert few.unit == many.unit == "us"
    assert 1_000 < few.extra["steps"] < many.extra["steps"] < 10_000
