"""How much a client of HTTP/2 may ask of a server: Envoy's limits, or stricter ones."""

from __future__ import annotations

from typing import Final

import ngh2

from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES
from meshlib.transport.protocol.http2_codec import HEADER_TABLE

MAX_STREAMS = 1024
"""Streams open at a time (Envoy's max_concurrent_streams)."""

STREAM_WINDOW = 256 * 1024
"""Bytes of a request that may wait for its consumer."""

UNWRITTEN = 2 * 1024 * 1024
"""Bytes of bodies that are made ready for one write: windows of many streams together have room for far more, which would all
lie in the socket's buffer before it could say that it is full."""

CONNECTION_WINDOW = 16 * 1024 * 1024
"""Bytes of all requests of a connection that may wait; those that have come whole, in one frame, are beside them."""

RESETS_JUDGED = 500
"""Streams after which a connection is closed when half of them were given up at once; or as soon as that is certain (Envoy's
premature_reset_total_stream_count)."""

FIRST_WINDOW = 65535
LARGEST_WINDOW = 2**31 - 1

AT_ONCE = 1.0
"""Seconds: a client that resets a stream within them, before the response has begun, has made work for nothing (Envoy's
premature_reset_min_stream_lifetime_seconds)."""

BLOCK_MOST = 4 * MAX_HEAD_BYTES
"""Bytes of a head: one between ``MAX_HEAD_BYTES`` and this is refused, beyond it the connection ends."""

CONFIGURATION: Final = ngh2.Configuration(
    auto_window_update=False,
    max_deflate_dynamic_table_size=HEADER_TABLE,
    max_inbound_header_list_size=BLOCK_MOST,
    max_inbound_header_count=4096,
    # sooner than this, ``RESETS_JUDGED`` ends a connection whose streams are given up for nothing; a client whose calls have
    # deadlines may reset many
    stream_reset_rate_limit=(20_000, 2_000),
)
