"""The head of a request of HTTP/1.1 that was taken (``http1_request.py``)."""

from __future__ import annotations

from collections.abc import Sequence


class RequestHead:
    """A head that was taken.

    ``lines``: the header lines as they came, each with its line end, less those that are for this connection only; ``lower``:
    the same in lower case, behind one line end, to look names up in. ``host``: what Host says. ``length``: of the body, in
    bytes; None: it comes in chunks; 0: there is none. ``close``: the client wants no further response here. ``upgrade``: the
    protocol it would rather speak, as it spells it, b"" for none. ``expects_continue``: it waits for 100 before its body.
    ``special``: beginnings of the lines that are looked for (``SPECIAL``).
    """

    __slots__ = ("host", "lines", "lower", "method", "special", "target")
    length: int | None = 0
    close = False
    upgrade = b""
    expects_continue = False

    def __init__(
        self, method: bytes, target: bytes, lines: bytes, lower: bytes, host: bytes, special: Sequence[bytes]
    ) -> None:
        self.method = method
        self.target = target
        self.lines = lines
        self.lower = lower
        self.host = host
        self.special = special


class FramedHead(RequestHead):
    """One that may have a body, or ask for more: ``RequestReader.head`` says so of most."""

    __slots__ = ("close", "expects_continue", "length", "upgrade")

    def __init__(
        self, method: bytes, target: bytes, lines: bytes, lower: bytes, host: bytes, special: Sequence[bytes]
    ) -> None:
        super().__init__(method, target, lines, lower, host, special)
        self.length = 0
        self.close = False
        self.upgrade = b""
        self.expects_continue = False
