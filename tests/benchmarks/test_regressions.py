"""Regressions of mechanisms: what is red, what is told, and what cannot be compared is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import mechanisms, regressions
from benchmarks.regressions import (
    NoBase,
    against_stored,
    checked_out,
    compare,
    judge_steps,
    judge_times,
    load_stored,
    missing,
    python_version,
    run,
    store,
)

ROOT = regressions.ROOT
SLOW = "policy/retry.py"


def steps(**each: float) -> regressions.Found:
    return {name: {"steps": value} for name, value in each.items()}


def times(*values: float) -> list[regressions.Found]:
    return [{"a": {"us": value}} for value in values]


@pytest.mark.parametrize(("now", "red"), [(100.0, False), (120.0, False), (120.1, True), (50.0, False)])
def test_a_fifth_more_steps_are_red(now: float, red: bool) -> None:
    (judged,) = judge_steps(steps(a=100.0), steps(a=now), {})
    assert judged.red is red
    assert ("RED" in str(judged)) is red


def test_who_keeps_the_new_count_in_the_same_commit_has_looked_at_it() -> None:
    (judged,) = judge_steps(steps(a=100.0), steps(a=150.0), {"a": 149.0})
    assert not judged.red
    assert "kept so" in str(judged)
    (judged,) = judge_steps(steps(a=100.0), steps(a=150.0), {"a": 100.0})
    assert judged.red


def test_times_are_red_only_where_the_spreads_do_not_overlap() -> None:
    (far,) = judge_times(times(1.0, 1.1, 1.05, 1.0), times(1.5, 1.6, 1.4, 1.5))
    assert far.red
    (overlapping,) = judge_times(times(1.0, 1.45, 1.05, 1.0), times(1.5, 1.6, 1.4, 1.5))
    assert not overlapping.red
    assert "no verdict" in str(overlapping)
    (small,) = judge_times(times(1.0, 1.0, 1.0, 1.0), times(1.1, 1.1, 1.1, 1.1))
    assert not small.red
    (few,) = judge_times(times(1.0, 1.0), times(9.0, 9.0))
    assert not few.red


def test_what_cannot_be_measured_is_told() -> None:
    broken: regressions.Found = {"a": {"error": "ImportError: no x"}}
    assert missing(steps(a=1.0), broken) == ["a: this tree cannot be measured: ImportError: no x"]
    assert missing(broken, steps(a=1.0)) == ["a: the base cannot be measured (ImportError: no x): not compared"]
    assert judge_steps(broken, steps(a=1.0), {}) == []


def test_a_change_of_five_percent_against_what_is_kept_is_told() -> None:
    kept = {"3.11": {"a": 100.0, "gone": 1.0}}
    told = against_stored(steps(a=106.0, b=1.0), kept, "3.11")
    assert told[0] == "a: 106.0 steps, +6% against the 100.0 that are kept"
    assert told[1:] == ["b: no steps are kept", "gone: is kept, and is no mechanism any more"]
    assert against_stored(steps(a=104.0, gone=1.0), kept, "3.11") == []
    assert against_stored(steps(a=1.0), kept, "3.99") == ["no steps are kept for Python 3.99 (there are: 3.11)"]


def test_what_is_kept_of_other_versions_stays(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text(json.dumps({"2.7": {"a": 1.0}}))
    store(steps(a=2.0), file)
    assert load_stored(file) == {"2.7": {"a": 1.0}, python_version(): {"a": 2.0}}
    assert load_stored(tmp_path / "none.json") == {}


def test_every_mechanism_is_kept() -> None:
    kept = load_stored()
    assert kept
    for python, each in kept.items():
        assert set(each) == set(mechanisms.WITHOUT_A_MESH if "callgrind" in python else mechanisms.MECHANISMS)


@pytest.mark.parametrize("name", mechanisms.MECHANISMS)
def test_a_mechanism_takes_steps_and_as_many_again(name: str) -> None:
    call = mechanisms.MECHANISMS[name]()
    first, second = mechanisms.steps_of(call, 100), mechanisms.steps_of(call, 100)
    assert first > 5
    assert second == pytest.approx(first, rel=0.05)


def test_a_time_is_above_nothing() -> None:
    assert mechanisms.time_of(lambda: sum(range(100)), 0.001) > 0


@pytest.mark.slow
def test_a_mechanism_that_is_made_dearer_is_red_and_the_others_are_not(tmp_path: Path) -> None:
    """Seen red: this tree, and a copy of it in which a retry's decision counts to thirty first."""
    slow = tmp_path / "slow"
    shutil.copytree(ROOT / "meshlib", slow / "meshlib", ignore=shutil.ignore_patterns("__pycache__"))
    file = slow / "meshlib" / SLOW
    head = "    if failure is not None:\n        return not global_timeout and bool("
    source = file.read_text()
    assert source.count(head) == 1
    file.write_text(source.replace(head, f"    for _ in range(30):\n        pass\n{head}"))
    said: list[str] = []
    judged, _ = compare(ROOT, slow, 0, said.append)
    assert [each.name for each in judged if each.red] == ["retry decision"]
    assert len(judged) == len(mechanisms.MECHANISMS)
    assert said == []


def test_a_tree_without_a_mechanism_says_so_and_measures_the_others(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "meshlib" / "policy").mkdir(parents=True)
    for file in ("meshlib/__init__.py", "meshlib/policy/__init__.py"):
        (tree / file).touch()
    (tree / "meshlib/policy/windowed_budget.py").write_text((ROOT / "meshlib/policy/windowed_budget.py").read_text())
    found = run(tree, "--steps")
    assert found["retry budget"]["steps"] > 5
    assert found["retry decision"]["error"].startswith("ModuleNotFoundError")


# -- commits ----------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *settings, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a file in meshlib/."""
    folder = tmp_path / "repository"
    (folder / "meshlib").mkdir(parents=True)
    git(folder, "init", "-q")
    for text in ("one", "two"):
        (folder / "meshlib" / "file").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", text)
    return folder


def test_the_parent_commit_is_checked_out_beside_and_gone_after(repository: Path) -> None:
    with checked_out("HEAD^", repository) as tree:
        assert (tree / "meshlib" / "file").read_text() == "one"
    assert not tree.exists()
    assert (repository / "meshlib" / "file").read_text() == "two"


def test_a_shallow_clone_is_told_what_to_do(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", repository.as_uri(), "shallow")
    with pytest.raises(NoBase, match=r"there is no commit HEAD\^ here; this clone is shallow: git fetch --deepen=1"):
        with checked_out("HEAD^", tmp_path / "shallow"):
            pass


def test_an_unknown_commit_and_a_folder_without_git_are_said(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(NoBase, match="there is no commit nonsense here; name another commit"):
        with checked_out("nonsense", repository):
            pass
    (tmp_path / "plain").mkdir()
    with pytest.raises(NoBase, match="is no clone of git"):
        with checked_out("HEAD^", tmp_path / "plain"):
            pass
