"""Where a test's seed comes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from meshlib.testing.replay import replayed_by, seed_of_run


def config(option: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(stash=pytest.Stash(), getoption=lambda name, default: option)


def test_the_option_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("MESHLIB_SEED", "7")
    assert seed_of_run(config()) == 7
    assert seed_of_run(config("8")) == 8


def test_without_either_each_run_has_one_of_its_own_for_all_its_tests(monkeypatch):
    monkeypatch.delenv("MESHLIB_SEED", raising=False)
    run = config()
    assert seed_of_run(run) == seed_of_run(run)
    assert len({seed_of_run(config()) for _ in range(5)}) == 5


def test_a_seed_that_is_not_a_number_is_an_error_of_usage(monkeypatch):
    with pytest.raises(pytest.UsageError, match="--mesh-seed: 'x' is not a whole number"):
        seed_of_run(config("x"))
    monkeypatch.setenv("MESHLIB_SEED", "1e3")
    with pytest.raises(pytest.UsageError, match="MESHLIB_SEED: '1e3' is not a whole number"):
        seed_of_run(config())


@pytest.mark.parametrize(
    ("folder", "nodeid", "shown"),
    [
        ("/p", "tests/test_a.py::test_b", "tests/test_a.py::test_b"),
        ("/p/tests", "tests/test_a.py::test_b", "test_a.py::test_b"),
        ("/p/src", "tests/test_a.py::Test::test_b[x/y::z]", "'../tests/test_a.py::Test::test_b[x/y::z]'"),
        ("/p", "test_a.py::test_b[it's $HOME]", """'test_a.py::test_b[it'"'"'s $HOME]'"""),
    ],
)
def test_a_test_is_replayed_from_the_folder_that_it_was_run_in_by_any_shell(folder, nodeid, shown):
    run = SimpleNamespace(rootpath=Path("/p"), invocation_params=SimpleNamespace(dir=Path(folder)))
    told = replayed_by(7, SimpleNamespace(config=run, nodeid=nodeid))
    assert told == f"seed 7: replay with  pytest --mesh-seed=7 {shown}"
