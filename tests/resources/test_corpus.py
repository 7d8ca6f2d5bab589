"""Real resources: Istio's own samples, unmodified, and the examples this project began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.errors import Severity
from meshlib.resources.loader import load

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"
SAMPLES = sorted(CORPUS.glob("istio-samples/**/*.yaml"))
SEEDS = sorted(CORPUS.glob("seeds/*.yaml"))

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not part of the repository")


@pytest.mark.parametrize("file", SAMPLES, ids=lambda p: str(p.relative_to(CORPUS)))
def test_every_sample_of_istio_loads_without_error(file: Path) -> None:
    result = load(file)
    assert result.errors == []
    assert result.resources or result.problems  # read, or said why not


@pytest.mark.parametrize("file", [f for f in SEEDS if not f.name.startswith("refused-")], ids=lambda p: str(p.name))
def test_every_seed_loads(file: Path) -> None:
    result = load(file)
    assert result.errors == []
    assert result.resources
    assert {p.severity for p in result.problems} <= {Severity.NOTICE}


def test_old_spellings_in_the_seeds_load_with_a_notice() -> None:
    deprecated = [p.path for f in SEEDS for p in load(f).problems if p.code == "deprecated"]
    for old in ("percent", "consecutiveErrors", "simple", "apiVersion"):
        assert any(path.endswith(old) for path in deprecated), old


@pytest.mark.parametrize(
    ("name", "place", "path", "remedy"),
    [
        ("refused-hosts-scalar.yaml", (7, 3), "spec.hosts", 'hosts: ["*"]'),
        (
            "refused-weight-inside-destination.yaml",
            (14, 9),
            "spec.http[0].route[0].destination.weight",
            "weight belongs next to destination, in spec.http[0].route[0]",
        ),
    ],
)
def test_a_refused_seed_gives_exactly_one_error_with_its_place_and_the_fix(
    name: str, place: tuple[int, int], path: str, remedy: str
) -> None:
    result = load(CORPUS / "seeds" / name)
    (found,) = result.errors
    assert (found.file, (found.line, found.column), found.path) == (str(CORPUS / "seeds" / name), place, path)
    assert remedy in found.hint
    assert result.resources == []


def test_the_corpus_is_there_in_full() -> None:
    assert len(SAMPLES) > 80
    assert len([f for f in SEEDS if f.name.startswith("refused-")]) == 2
