"""What notebooks show: the text that a terminal would show, of which a browser obeys nothing."""

from __future__ import annotations

import html


def as_html(text: str) -> str:
    """``text`` as a preformatted block. URLs, headers and hosts in it are of callers and of files: all is escaped."""
    return f"<pre>{html.escape(text)}</pre>"
