"""The row of one request to an application behind the proxy in process: served without a task, in plain text and over mTLS."""

from __future__ import annotations

from benchmarks.proxy_inbound_inprocess_rows import inbound_in_process


def test_a_request_is_served_over_kept_connections_and_tls_costs_few_steps_of_bytecode():
    plain, plain_many, mutual, mutual_many, told, told_many = inbound_in_process(quick=True)
    assert "plain text" in plain.name
    assert "mTLS" in mutual.name
    assert plain.unit == mutual.unit == "us"
    assert "access log" in told.name
    for few, many in ((plain, plain_many), (mutual, mutual_many), (told, told_many)):
        assert 1_000 < few.extra["steps"] < many.extra["steps"] < 10_000
    # not by a share: what a request takes in plain text is made less by others
    assert plain.extra["steps"] < mutual.extra["steps"] < plain.extra["steps"] + 450
    assert plain.extra["steps"] < told.extra["steps"] < plain.extra["steps"] + 1_600
