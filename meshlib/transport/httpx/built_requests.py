"""Requests of which the like was built before: a client's URLs are parsed once, and its headers put together once an authority.

Parsing a URL takes httpx longer than the whole policy takes, and putting the headers of a request together longer still (rows
"p50" of ``make bench``). What is built here equals what httpx builds, which a test compares; a request with a body, cookies,
parameters or extensions is built by httpx itself, and so is every one with ``MESHLIB_PLAIN=1``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

from meshlib.httpx_module import typed
from meshlib.transport.httpx.filled import Triple, compare, filled_headers, filled_request, requests_as_known
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from httpx._client import BaseClient as Base
    from httpx._client import UseClientDefault
    from httpx._types import (
        CookieTypes,
        HeaderTypes,
        QueryParamTypes,
        RequestContent,
        RequestData,
        RequestExtensions,
        RequestFiles,
        TimeoutTypes,
    )
else:
    Base = object

_Request, _Headers, _ByteStream = httpx.Request, httpx.Headers, httpx.ByteStream
compare(typed(httpx))
_filled: Final = requests_as_known(typed(httpx))

MOST_URLS = 1024
MOST_TEMPLATES = 256
LONGEST_URL = 2048
FEW_MISSES = 128
SELDOM = 64
"""After ``FEW_MISSES`` URLs that were not met before, one in so many is remembered: a program whose URLs are all different
would only fill the table and have it cleared."""


class _Template:
    """The headers of requests with one method to one authority, and those of the client that they were made of."""

    __slots__ = ("headers", "lower", "names", "of_client", "raw")

    def __init__(self, of_client: Sequence[object], request: httpx.Request) -> None:
        self.of_client = list(of_client)
        self.headers = request.headers
        self.raw = request.headers.raw
        # it decides whether httpx adds a Content-Length
        self.names = frozenset([*(name.lower() for name in request.headers), "transfer-encoding"])
        self.lower = frozenset(name.encode("latin-1", "replace") for name in self.names)


class _Built:
    """What a client remembers, as long as its base URL is the same."""

    __slots__ = ("_misses", "base_url", "templates", "urls")

    def __init__(self, base_url: httpx.URL) -> None:
        self.base_url = base_url
        self._misses = 0
        self.urls: dict[str, tuple[httpx.URL, bytes]] = {}
        self.templates: dict[tuple[str, bytes], _Template] = {}

    def known(self, url: str) -> tuple[httpx.URL, bytes] | None:
        """The URL and its authority; None for one below the base URL that was not met before."""
        found = self.urls.get(url)
        if found is not None:
            return found
        parsed = httpx.URL(url)
        return None if parsed.is_relative_url else self.remember(url, parsed)

    def remember(self, url: str, parsed: httpx.URL) -> tuple[httpx.URL, bytes]:
        """What ``url`` leads to."""
        found = parsed, parsed.netloc
        self._misses += 1
        if self._misses > FEW_MISSES and self._misses % SELDOM:
            return found
        if len(url) <= LONGEST_URL and not parsed.is_relative_url:
            if len(self.urls) >= MOST_URLS:
                self.urls.clear()
            self.urls[url] = found
        return found


def triples_of(headers: dict[str, str], taken: frozenset[bytes]) -> list[Triple] | None:
    """Headers as httpx keeps them; None where it would do more than that: names of ``taken`` (in lower case) or twice in
    other spellings, bytes, text that is not ASCII."""
    triples = []
    for name, value in headers.items():
        if type(name) is not str or type(value) is not str or not (name.isascii() and value.isascii()):
            return None
        raw = name.encode("ascii")
        lower = raw.lower()
        if lower in taken:
            return None
        triples.append((raw, lower, value.encode("ascii")))
    if len(triples) > 1 and len({triple[1] for triple in triples}) < len(triples):
        return None
    return triples


class BuildsRequests(Base):
    """Mixed into httpx's clients."""

    _built: _Built | None = None

    def build_request(
        self,
        method: str,
        url: httpx.URL | str,
        *,
        content: RequestContent | None = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: object = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        timeout: TimeoutTypes | UseClientDefault = httpx.USE_CLIENT_DEFAULT,
        extensions: RequestExtensions | None = None,
    ) -> httpx.Request:
        """Build and return a request instance, as ``httpx.Client.build_request``."""
        built = self._built
        if built is None or built.base_url is not self.base_url:
            built = self._built = _Built(self.base_url)
        known = None
        if type(url) is str and not PLAIN:
            known = built.urls.get(url) or built.known(url)
        if (
            known is not None
            and content is None
            and data is None
            and files is None
            and json is None
            and params is None
            and cookies is None
            and extensions is None
            and (headers is None or type(headers) is dict)
            and not self.params
            and not self.cookies
        ):
            like_others = self._like_others(built, method, known, headers, timeout)
            if like_others is not None:
                return like_others
        made = super().build_request(
            method,
            url if known is None else known[0],
            content=content,
            data=data,
            files=files,
            json=json,
            params=params,
            headers=headers,
            cookies=cookies,
            timeout=timeout,
            extensions=extensions,
        )
        if known is None and params is None and type(url) is str and not self.params and not PLAIN:
            built.remember(url, made.url)
        return made

    def _like_others(
        self,
        built: _Built,
        method: str,
        known: tuple[httpx.URL, bytes],
        headers: dict[str, str] | None,
        timeout: TimeoutTypes | UseClientDefault,
    ) -> httpx.Request | None:
        """A request with nothing but a URL and perhaps headers; None: httpx has more to do for these."""
        url, authority = known
        template = built.templates.get((method, authority))
        own = self.headers
        of_client = own._list if _filled and type(own) is _Headers else own.raw
        if template is None or template.of_client != of_client:
            template = _Template(of_client, super().build_request(method, url))
            if len(built.templates) >= MOST_TEMPLATES:
                built.templates.clear()
            built.templates[method, authority] = template
        limits = self.timeout if timeout is httpx.USE_CLIENT_DEFAULT else httpx.Timeout(timeout)  # type: ignore[arg-type]
        if _filled and httpx.Request is _Request:
            own_triples = triples_of(headers, template.lower) if headers else ()
            if own_triples is not None:
                triples = [*template.headers._list, *own_triples]
                asked: dict[str, object] = {"timeout": limits.as_dict()}
                return filled_request(_Request, method, url, filled_headers(_Headers, triples), _ByteStream(b""), asked)
        merged: HeaderTypes = template.headers
        if headers:
            names = template.names
            if any([type(name) is not str or name.lower() in names for name in headers]):  # noqa: C419 (no generator)
                return None
            merged = [*template.raw, *headers.items()]  # type: ignore[assignment]  # httpx takes both in one list
        # as httpx does: a request that is given a stream has its headers already, and one without a body is read at once
        made = httpx.Request(
            method, url, headers=merged, stream=httpx.ByteStream(b""), extensions={"timeout": limits.as_dict()}
        )
        made.read()
        return made
