"""Headers of a response whose head was met before: what httpx's client decodes of them is decoded once a head, and not with
each call.

``httpx.Client`` looks for cookies in every response, for which it decodes each header several times (row "p50, own client" of
``make bench``). ``multi_items`` of these gives what it would have given. Whoever has changed the headers or their encoding
since gets httpx's own way; a pickle or a copy is of httpx's class.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from meshlib.transport.httpx.filled import Triple

    Base = httpx.Headers
else:
    Base = object


class Head:
    """What is known of a head. ``headers``: as httpx keeps them, to be copied. ``encoded``: it has a Content-Encoding.
    ``items`` and ``encoding``: what ``multi_items`` gave of them, None until somebody asked."""

    __slots__ = ("encoded", "encoding", "headers", "items", "sets_cookie")

    def __init__(self, headers: list[Triple], sets_cookie: bool, encoded: bool) -> None:
        self.headers = headers
        self.sets_cookie = sets_cookie
        self.encoded = encoded
        self.items: list[tuple[str, str]] | None = None
        self.encoding: str | None = None

    def __repr__(self) -> str:  # a cookie is a secret
        return f"<Head {len(self.headers)} headers>"


class MetHeaders(Base):
    """Mixed into httpx's ``Headers``."""

    _met: Head
    _plain: type[httpx.Headers]
    """httpx's class."""

    def multi_items(self) -> list[tuple[str, str]]:
        """Return a list of `(key, value)` pairs of headers, as httpx's."""
        met = self._met
        if self._list != met.headers or (self._encoding is not None and self._encoding != met.encoding):
            return super().multi_items()
        items = met.items
        if items is None:
            items = super().multi_items()
            if self._encoding is not None:
                met.encoding = self._encoding  # before the items: other threads look at these
                met.items = items.copy()
            return items
        self._encoding = met.encoding  # as httpx remembers it with its first look
        return items.copy()

    def __reduce_ex__(self, _protocol: object) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
        state: dict[str, object] = {"_list": self._list, "_encoding": self._encoding}
        # as pickle itself makes an object without calling its class: read where there may be no meshlib
        return copyreg._reconstructor, (self._plain, object, None), state  # type: ignore[attr-defined]


def met_headers_of(kind: type[httpx.Headers]) -> type[MetHeaders]:
    """The class in the eyes of one module, whose own is ``kind``."""
    return type(kind.__name__, (MetHeaders, kind), {"__doc__": kind.__doc__, "_plain": kind})
