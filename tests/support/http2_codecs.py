"""The libraries that HTTP/2 can stand on here."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator

from meshlib.transport.protocol import http2
from meshlib.transport.protocol.http2_codec import Factory, Head
from meshlib.transport.protocol.http2_h2 import H2Codec

CODECS: dict[str, Factory] = {"h2": H2Codec}
if importlib.util.find_spec("ngh2") is not None:
    from meshlib.transport.protocol.http2_ngh2 import Ngh2Codec

    CODECS["ngh2"] = Ngh2Codec


@contextlib.contextmanager
def sessions_on(name: str) -> Iterator[None]:
    """New sessions stand on this one."""
    before, http2.preferred = http2.preferred, lambda: CODECS[name]
    try:
        yield
    finally:
        http2.preferred = before


class Told:
    """A ``Sink`` that keeps what it is told, but for settings and windows."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def on_settings(self) -> None:
        """Of no interest here."""

    def on_window(self, number: int) -> None:
        """Likewise."""

    def on_head(self, number: int, headers: Head) -> None:
        self.calls.append(("head", number, [tuple(pair) for pair in headers]))

    def on_interim(self, number: int, headers: Head) -> None:
        self.calls.append(("interim", number, [tuple(pair) for pair in headers]))

    def on_data(self, number: int, data: bytes, size: int) -> None:
        self.calls.append(("data", number, bytes(data), size))

    def on_last(self, number: int, data: bytes) -> None:
        self.on_data(number, data, len(data))
        self.on_end(number)

    def on_trailers(self, number: int, headers: Head) -> None:
        self.calls.append(("trailers", number, [tuple(pair) for pair in headers]))

    def on_last_trailers(self, number: int, headers: Head) -> None:
        self.on_trailers(number, headers)
        self.on_end(number)

    def on_wholes(
        self, numbers: Iterable[int], heads: Iterable[Head], bodies: Iterable[bytes], trailers: Iterable[Head | None]
    ) -> list[int]:
        told = [self._on_whole(*each) for each in zip(numbers, heads, bodies, trailers)]  # noqa: B905 (may be endless)
        return [1000] * len(told)

    def _on_whole(self, number: int, headers: Head, data: bytes, trailers: Head | None) -> None:
        self.on_head(number, headers)
        if trailers is None:
            self.on_last(number, data)
        else:
            self.on_data(number, data, len(data))
            self.on_last_trailers(number, trailers)

    def on_end(self, number: int) -> None:
        self.calls.append(("end", number))

    def on_reset(self, number: int, code: int) -> None:
        self.calls.append(("reset", number, code))

    def on_broken(self, number: int, code: int) -> None:
        self.calls.append(("broken", number, code))

    def on_goaway(self, last: int) -> None:
        self.calls.append(("goaway", last))
