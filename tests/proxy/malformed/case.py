"""One case of the corpus: bytes that a client sends, and how they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

SHOP = b"shop00"
"""The host of every case. Whoever sends one puts the name of a host of its own there, as long as this: so what is sent to it
can be told from what belongs to the cases beside it."""

INTERESTING = bytes(
    [
        0,
        1,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        27,
        31,
        32,
        34,
        35,
        37,
        40,
        44,
        45,
        47,
        58,
        59,
        61,
        64,
        91,
        92,
        95,
        123,
        127,
        128,
        133,
        160,
        195,
        255,
    ]
)
"""Bytes on which parsers differ."""
EVERY = bytes(range(256))


Side = Literal["outbound", "inbound", "http2"]
"""Of the sidecar; ``http2`` is the outbound one."""


class Case(NamedTuple):
    """``id``: ``family/name``. ``cuts``: where ``data`` is cut into pieces that arrive one by one. ``leaves``: the client
    closes its side once all is sent."""

    id: str
    data: bytes
    cuts: tuple[int, ...] = ()
    leaves: bool = False

    @property
    def family(self) -> str:
        return self.id.partition("/")[0]

    def pieces(self, host: bytes = SHOP) -> Iterator[bytes]:
        """What is sent, to ``host`` in place of ``SHOP``."""
        data, start = self.data.replace(SHOP, host).replace(SHOP.upper(), host.upper()), 0
        for cut in self.cuts:
            yield data[start:cut]
            start = cut
        yield data[start:]


def request(line: bytes, *headers: bytes, body: bytes = b"", host: bytes | None = b"Host: " + SHOP) -> bytes:
    """A request of these lines, each without its end."""
    lines = [line, *([] if host is None else [host]), *headers]
    return b"\r\n".join([*lines, b"", body])


def get(*headers: bytes, target: bytes = b"/", body: bytes = b"") -> bytes:
    return request(b"GET " + target + b" HTTP/1.1", *headers, body=body)


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return request(b"POST / HTTP/1.1", *headers, body=body)


def chunks(*parts: bytes) -> bytes:
    """A POST whose body in chunks is written as these parts say."""
    return post(b"Transfer-Encoding: chunked", body=b"".join(parts))


def by_byte(family: str, before: bytes, after: bytes, values: bytes) -> Iterator[Case]:
    """``before`` and ``after`` with each of these bytes between them."""
    for value in values:
        yield Case(f"{family}/{value:02x}", before + bytes([value]) + after)


def numbered(family: str, requests: Iterable[bytes]) -> Iterator[Case]:
    for at, data in enumerate(requests):
        yield Case(f"{family}/{at}", data)
