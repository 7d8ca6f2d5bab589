"""Power laws: what grows by one is found again, and what cannot be fitted is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.bench.fit import power_law

SIZES = [10.0, 100.0, 1000.0, 10_000.0]


@given(st.floats(1e-3, 1e3), st.floats(-1, 3))
def test_a_power_law_is_found_again(factor: float, exponent: float) -> None:
    fit = power_law(SIZES, [factor * size**exponent for size in SIZES])
    assert fit is not None
    assert fit.factor == pytest.approx(factor)
    assert fit.exponent == pytest.approx(exponent, abs=1e-6)
    assert fit.tail == pytest.approx(exponent, abs=1e-6)
    assert fit.at(500) == pytest.approx(factor * 500**exponent)


def test_what_every_size_pays_does_not_hide_growth() -> None:
    fit = power_law(SIZES, [50 + size for size in SIZES])
    assert fit is not None
    assert fit.exponent < 0.85
    assert fit.word == "linearly"
    assert fit.r2 < 1


@pytest.mark.parametrize(
    ("exponent", "word"),
    [
        (0.0, "constant"),
        (0.5, "less than linearly"),
        (1.0, "linearly"),
        (1.4, "more than linearly"),
        (2, "more than linearly"),
    ],
)
def test_growth_has_a_word(exponent: float, word: str) -> None:
    fit = power_law(SIZES, [3 * size**exponent for size in SIZES])
    assert fit is not None
    assert fit.word == word
    assert str(fit) == f"n^{exponent:.2f} (greater half n^{exponent:.2f}), R² 1.000: {word}"


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ([], []),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0, 2.0], [1.0] * 3),
        (SIZES, [0.0] * 4),
        ([0.0, 1.0, 2.0], [1.0] * 3),
    ],
)
def test_too_little_is_not_fitted(sizes: list[float], values: list[float]) -> None:
    assert power_law(sizes, values) is None
