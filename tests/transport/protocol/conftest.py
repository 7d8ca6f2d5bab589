"""The libraries under the client's sessions of HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.http2_codecs import CODECS, sessions_on


@pytest.fixture(scope="module", params=sorted(CODECS))
def codec(request: pytest.FixtureRequest) -> Iterator[str]:
    """The library under the sessions of a file."""
    with sessions_on(request.param):
        yield request.param
