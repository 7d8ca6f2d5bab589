"""What the fuzzers have found so far, replayed: no atheris is needed for it."""

from __future__ import annotations

import pytest

from tests.fuzz.corpus import CORPUS, TARGETS, kept, run_of

MOST_FILES, MOST_BYTES = 400, 300_000


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_that_a_fuzzer_kept_still_passes(target):
    run = run_of(target)
    files = kept(target)
    assert len(files) >= 10
    for file in files:
        try:
            run(file.read_bytes())
        except Exception as error:
            raise AssertionError(f"python -m tests.fuzz {target} --replay {file.relative_to(CORPUS.parent)}") from error


def test_the_corpus_stays_small():
    files = [file for target in TARGETS for file in kept(target)]
    assert len(files) <= MOST_FILES
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_and_an_empty_one_mean_something(target):
    for data in (b"", b"\0", bytes(300), b"\xff" * 300):
        run_of(target)(data)
