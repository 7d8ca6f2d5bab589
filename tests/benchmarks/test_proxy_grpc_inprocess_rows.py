"""The row of one gRPC call in process: it is forwarded without a task, message and trailers both ways."""

from __future__ import annotations

from benchmarks.proxy_grpc_inprocess_rows import grpc_in_process


def test_a_call_is_forwarded_over_streams_of_kept_connections():
    (row,) = grpc_in_process(quick=True)
    assert row.unit == "us"
    assert 1_000 < row.extra["steps"] < 10_000
