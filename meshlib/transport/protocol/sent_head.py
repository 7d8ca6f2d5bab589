"""The headers of a request that were met before, with what they come to on the wire in both versions of HTTP."""

from __future__ import annotations


class SentHead(tuple[tuple[bytes, bytes], ...]):
    """Headers of a request without a body that were found to be proper (``heads_to_send.sent_head_of``): they may be written as
    ``lines`` over HTTP/1.1, as ``written`` with ``authority`` over HTTP/2. They declare no body, upgrade nothing, and none of
    them is kept out of HTTP/2's compression."""

    lines: bytes
    """Each header with its line end, and the empty line."""
    written: tuple[tuple[bytes, bytes], ...]
    authority: bytes | None

    def __repr__(self) -> str:  # a header may hold a secret
        return f"<SentHead {len(self)} headers>"
