"""Envoy's own normalization of paths says what ours must be, byte for byte, for each of Istio's settings."""

from __future__ import annotations

import os
import random

from meshlib.policy.path_spellings import NORMALIZATIONS, path_spellings
from tests.differential.path_echo import Echo, echoing

CASES = int(os.environ.get("MESHLIB_PATH_CASES", "1500"))
PIECES = [
    "/",
    "//",
    ".",
    "..",
    "%2e",
    "%2E",
    ";",
    ";x",
    "\\",
    "%2f",
    "%5C",
    "a",
    "b",
    "%41",
    "%7e",
    "%25",
    "%",
    "%4",
    "%zz",
]
PIECES += [
    "%C3%A9",
    "%20",
    "{",
    "}",
    "^",
    '"',
    "~",
    "-",
    "*",
    ":",
    "@",
    "#f",
    "%5e",
    "%2D",
    "...",
    "/../",
    "/./",
    "/..;/",
]


def test_normalized_paths_are_envoys() -> None:
    rng = random.Random(20)
    paths = [f"/p{sign}q" for byte in range(256) for sign in (f"%{byte:02x}", f"%{byte:02X}")]
    paths += [f"/p{chr(byte)}q" for byte in range(0x21, 0x7F)]
    paths += ["/" + "".join(rng.choices(PIECES, k=rng.randint(1, 8))) for _ in range(CASES)]
    with echoing() as echo:
        wrong = [found for path in paths for found in _differences(echo, path)]
    assert wrong == []


def _differences(echo: Echo, path: str) -> list[tuple[str, str, str, bytes | None]]:
    found = []
    for normalization in NORMALIZATIONS:
        if "?" in path:
            continue
        envoys = echo.path(normalization, path.encode("latin-1"))
        ours = path_spellings(path, normalization)
        if not ours.problem and (envoys is None or ours.normalized != envoys.decode("latin-1")):
            found.append((normalization, path, ours.normalized, envoys))
    return found


def test_what_envoy_refuses_is_refused() -> None:
    paths = [f"/p{chr(byte)}q" for byte in range(256) if byte not in (9, 10, 13, 32)]
    paths += [f"/p%{byte:02x}q" for byte in range(256)] + ["*", "\\a"]
    with echoing() as echo:
        let_in = [
            (normalization, path)
            for path in paths
            for normalization in NORMALIZATIONS
            if echo.path(normalization, path.encode("latin-1")) is None
            and not path_spellings(path, normalization).problem
        ]
    assert let_in == []
