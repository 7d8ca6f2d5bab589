"""How much a client of HTTP/2 may ask of a server."""

from __future__ import annotations

from meshlib.transport.protocol import http2_server_limits as limits
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES


def test_streams_and_resets_are_limited_as_by_envoy():
    assert (limits.MAX_STREAMS, limits.RESETS_JUDGED, limits.AT_ONCE) == (1024, 500, 1.0)


def test_what_a_connection_may_make_us_hold_is_bounded():
    assert limits.STREAM_WINDOW < limits.CONNECTION_WINDOW <= 16 * 1024 * 1024
    assert MAX_HEAD_BYTES < limits.BLOCK_MOST == limits.CONFIGURATION.max_inbound_header_list_size
    assert not limits.CONFIGURATION.auto_window_update


def test_nghttp2_counts_resets_only_after_we_have():
    burst, _ = limits.CONFIGURATION.stream_reset_rate_limit
    assert burst > limits.RESETS_JUDGED
