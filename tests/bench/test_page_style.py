"""The page's colours can be read by everybody (WCAG 2.2 AA), in light and in dark."""

from __future__ import annotations

import re

import pytest

from meshlib.bench.page_style import DARK, LIGHT, STYLE, policy
from meshlib.bench.series import _OF_SCALE, _OTHERS

SCHEMES = [pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark")]


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_stand_out_from_what_is_behind_them(scheme: dict[str, str]) -> None:
    for text in ("ink", "soft"):
        for behind in ("page", "card"):
            assert contrast(scheme[text], scheme[behind]) >= 4.5, (text, behind)
    assert contrast(scheme["ink"], scheme["note"]) >= 4.5
    for coloured in ("t0", "t1"):  # names of meshlib's rows, and links
        assert contrast(scheme[coloured], scheme["card"]) >= 4.5
        assert contrast(scheme[coloured], scheme["page"]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_series_stand_out_from_what_is_behind_them(scheme: dict[str, str]) -> None:
    tones = [name for name in scheme if re.fullmatch(r"t\d", name)]
    assert len(tones) == 8
    assert {tone for tone, _ in (*_OTHERS, *_OF_SCALE)} <= set(tones)
    assert all(contrast(scheme[tone], scheme["card"]) >= 3 for tone in tones)
    assert len({scheme[tone] for tone in tones}) == 8


def test_both_schemes_have_the_same_colours_and_the_style_uses_no_other() -> None:
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", STYLE)) - {"tone"}
    assert used <= LIGHT.keys()


def test_the_policy_lets_nothing_be_fetched() -> None:
    assert policy().startswith("default-src 'none'; ")
    assert "http" not in policy()
