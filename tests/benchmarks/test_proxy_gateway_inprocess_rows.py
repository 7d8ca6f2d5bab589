"""The row of one request through a gateway in process: forwarded without a task, and in few steps of bytecode."""

from __future__ import annotations

from benchmarks.proxy_gateway_inprocess_rows import gateway_in_process


def test_a_request_of_a_gateways_client_goes_the_short_way_in_few_steps_of_bytecode():
    few, many = gateway_in_process(quick=True)
    assert few.unit == many.unit == "us"
    # nothing is asked of each header by itself: more of them cost no more than a longer look
    assert 1_000 < few.extra["steps"] < 6_000
    assert many.extra["steps"] < 1.25 * few.extra["steps"]
