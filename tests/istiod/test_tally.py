"""The verdict of ``make istiod``: what makes it red."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.istiod.judges import ANSWERS
from tests.istiod.tally import Accepted, Tally

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

NOTHING = Accepted(frozenset(), {})


def a_tally(equal: int = 0, different: int = 0, documented: int = 0, name: str = "wildcard") -> Tally:
    tally = Tally()
    for _ in range(equal):
        tally.equal(name)
    for n in range(different):
        tally.different(name, "clusters", f"mesh-{n}")
    for _ in range(documented):
        tally.documented(name, "url-without-port")
    return tally


def test_all_equal_is_good():
    assert a_tally(equal=3).over(NOTHING) == []


def test_one_difference_in_a_class_without_ceiling_is_not_accepted():
    (sentence,) = a_tally(equal=999, different=1).over(NOTHING)
    assert sentence == "wildcard: 1 of 1000 differ (0.10 %; 0 % are accepted)"


def test_a_ceiling_accepts_a_share_of_differences_and_no_more():
    accepted = Accepted(frozenset(), {"wildcard": 0.5})
    assert a_tally(equal=199, different=1).over(accepted) == []
    assert a_tally(equal=198, different=2).over(accepted) != []


def test_a_deviation_counts_as_accepted_only_by_its_name():
    tally = a_tally(equal=1, documented=5)
    assert tally.over(Accepted(frozenset({"url-without-port"}), {})) == []
    assert tally.over(NOTHING) == ["wildcard: deviation url-without-port is not in accepted.txt"]


def test_what_several_processes_counted_adds_up():
    tally = a_tally(equal=1)
    tally.add(a_tally(different=2))
    tally.add(a_tally(equal=1, documented=1, name="headless"))
    row = tally.classes["wildcard"]
    assert (row.judged, row.equal, row.different["clusters"]) == (3, 1, 2)
    assert tally.classes["headless"].documented["url-without-port"] == 1
    assert tally.examples == ["wildcard: clusters: mesh-0", "wildcard: clusters: mesh-1"]


def test_the_table_names_every_class_and_the_sum():
    tally = a_tally(equal=3, different=1)
    tally.add(a_tally(equal=1, name="headless"))
    lines = list(tally.table())
    assert [line.split()[0] for line in lines[1:3]] == ["wildcard", "headless"]
    assert "clusters 1" in lines[1]
    assert lines[-1] == "4 of 5 equal (80.00 %), 0 documented, 1 different"


def test_a_line_that_is_neither_is_an_error(tmp_path: Path):
    file = tmp_path / "accepted.txt"
    file.write_text("# why\ndeviation crd # reason\nclass x 3\n")
    with pytest.raises(ValueError, match=r"accepted.txt:3"):
        Accepted.read(file)


def test_the_list_in_the_repository_can_be_read():
    accepted = Accepted.read(Path(__file__).with_name("accepted.txt"))
    assert "url-without-port" in accepted.deviations


def run(*arguments: str, answers: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if answers is not None:
        environment["MESHLIB_ISTIOD"] = str(answers)
    command = [sys.executable, "-m", "tests.istiod", "--jobs", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)


def test_without_the_answers_it_says_that_nothing_was_compared(tmp_path: Path):
    done = run(answers=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("SKIPPED: istiod's answers are not there")


@pytest.mark.skipif(not ANSWERS.is_dir(), reason="istiod's answers are not beside the repository")
def test_a_single_mesh_is_judged_in_a_process_of_its_own():
    done = run("--mesh", "ordinary-17")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 different" in done.stdout
