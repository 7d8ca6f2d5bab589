"""How requests that do not come from a library are sent: headers as a list, a body that is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, joined_value, shadow_host, size_of
from meshlib.policy.deadline import write as write_deadline
from meshlib.policy.header_ops import RawHeaders

if TYPE_CHECKING:
    from meshlib.engine.wanted_headers import Values, WantedHeaders


class AsSent:
    """The half of a ``Request`` that rules change and runtimes send. ``body``: all of it, None without one."""

    __slots__ = ("body", "counted", "target")

    if TYPE_CHECKING:
        method: str

        @property
        def headers(self) -> RawHeaders: ...
        @headers.setter
        def headers(self, headers: RawHeaders) -> None: ...

    multiplexed = False
    replayable = True
    whole = True
    sent = True
    trace = None

    def __init__(self, target: bytes, body: bytes | None) -> None:
        self.target = target
        self.body = body
        self.counted = False  # whether headers hold the number of the first attempt

    def sent_bytes(self) -> int:
        """Its bytes: method, target, names and values of headers, and body."""
        return size_of(self.headers) + len(self.method) + len(self.target) + len(self.body or b"")

    def body_bytes(self) -> int:
        """Those of its body."""
        return len(self.body or b"")

    alike = names = None

    def sent_header(self, name: str) -> str | None:
        """Value of a header as it is sent."""
        return joined_value(self.headers, name)

    def sent_values(self, wanted: WantedHeaders) -> Values:
        """The values of some headers as they are sent."""
        return wanted.values(self.headers)

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them."""
        self.counted = True
        return [*self.headers, (ATTEMPT_COUNT, b"1")]

    def attempt_headers(self, attempt: int) -> RawHeaders:
        """The headers with the number of the attempt."""
        count = (ATTEMPT_COUNT, b"%d" % attempt)
        if not self.counted:
            return [*self.headers, count]
        return [count if pair[0] == ATTEMPT_COUNT else pair for pair in self.headers]

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left."""
        name = header.encode("latin-1")
        rest = [pair for pair in self.headers if pair[0].lower() != name]
        self.headers = [*rest, (name, write_deadline(header, seconds).encode())]

    def _shadow_headers(self) -> RawHeaders:
        return [(name, shadow_host(value)) if name.lower() == HOST else (name, value) for name, value in self.headers]
