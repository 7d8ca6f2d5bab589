"""The path that our proxy forwards is the one that Envoy forwards, for each of Istio's normalizations, or it is refused."""

from __future__ import annotations

import os
import random

import pytest

from meshlib.policy.path_spellings import NORMALIZATIONS, Normalization
from meshlib.proxy.destination import destination
from meshlib.transport.protocol.http1_request import Refused, RequestReader
from tests.differential.path_echo import Echo, echoing
from tests.differential.test_paths_against_envoy import PIECES

CASES = int(os.environ.get("MESHLIB_PATH_CASES", "1500"))
ODD = [
    "%00",
    "%01",
    "%0a",
    "%80",
    "%ff",
    "%2e%2e;",
    "%252e",
    "?",
    "?a/../b",
    "..;",
    "%u002e",
    "\xe9",
    "|",
    "<",
    "%3F",
    "%23",
]


@pytest.mark.differential
def test_forwarded_paths_are_envoys() -> None:
    rng = random.Random(18)
    paths = [f"/p%{byte:02X}q" for byte in range(256)]
    paths += ["/" + "".join(rng.choices(PIECES + ODD, k=rng.randint(1, 8))) for _ in range(CASES)]
    with echoing() as echo:
        wrong = [found for path in paths for found in _differences(echo, path)]
    assert wrong == []
    refused = [path for path in paths for normalization in NORMALIZATIONS if _ours(path, normalization) is None]
    assert len(refused) < len(paths) * len(NORMALIZATIONS) * 0.25, "most are forwarded, else nothing was compared"


def _ours(path: str, normalization: Normalization) -> bytes | None:
    reader = RequestReader()
    reader.feed(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode("latin-1"))
    try:
        head = reader.head()
        assert head is not None
        return destination(head, normalization)[1]
    except Refused:
        return None


def _differences(echo: Echo, path: str) -> list[tuple[str, str, bytes, bytes | None]]:
    found = []
    for normalization in NORMALIZATIONS:
        ours = _ours(path, normalization)
        if ours is not None:
            envoys = echo.path(normalization, path.encode("latin-1"))
            if ours != envoys:
                found.append((normalization, path, ours, envoys))
    return found
