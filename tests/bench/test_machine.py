"""What a run was measured on, and what makes its figures less sure."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.bench import machine
from meshlib.bench.machine import Facts, cgroup_cores, warnings

IDLE: Facts = {"cores": 4, "load (1 min)": 0.1}


def test_facts_name_the_machine_and_the_versions() -> None:
    found = machine.facts()
    assert found["cores"] == machine.cores()
    assert {"processor", "system", "python", "httpx", "load (1 min)"} <= found.keys()


def test_an_idle_machine_of_many_cores_has_no_warning() -> None:
    assert warnings(IDLE) == []


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ({"cores": 1}, "one core only"),
        ({"cgroup limit, cores": 0.5}, "limits this process and its children to 0.5 cores of 4"),
        ({"load (1 min)": 3.0}, "the machine was busy before the run began (load 3 on 4 cores)"),
    ],
)
def test_what_makes_figures_less_sure_is_said(fact: Facts, said: str) -> None:
    (sentence,) = warnings({**IDLE, **fact})
    assert said in sentence


def cgroup(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / name / file.replace("__", ".")).write_text(text)


def test_the_tightest_limit_of_a_cgroup_and_those_above_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/pods/mine\n")
    root = tmp_path / "fs"
    cgroup(root, "pods", cpu__max="150000 100000\n")
    cgroup(root, "pods/mine", cpu__max="max 100000\n")
    assert cgroup_cores(root, own) == 1.5
    cgroup(root, "pods/mine", cpu__max="50000 100000\n")
    assert cgroup_cores(root, own) == 0.5


def test_limits_of_the_first_version_of_cgroups_are_read(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:cpu,cpuacct:/\n")
    cgroup(tmp_path, "fs", cpu__cfs_quota_us="200000\n", cpu__cfs_period_us="100000\n")
    assert cgroup_cores(tmp_path / "fs", own) == 2.0
    cgroup(tmp_path, "fs", cpu__cfs_quota_us="-1\n")
    assert cgroup_cores(tmp_path / "fs", own) is None


@pytest.mark.parametrize("tree", ["cpu", "cpu,cpuacct"])
def test_in_the_first_version_the_limit_stands_in_the_tree_of_its_controller(tmp_path: Path, tree: str) -> None:
    own = tmp_path / "own"
    own.write_text(f"9:name=systemd:/else\n7:memory:/pods/mine\n1:{tree}:/pods/mine\n0::/\n")
    cgroup(tmp_path, f"fs/{tree}/pods/mine", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    cgroup(tmp_path, f"fs/{tree}/pods", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    assert cgroup_cores(tmp_path / "fs", own) == 0.5
    own.write_text(f"1:{tree}:/docker/0123\n")  # a container that sees its own tree, and is told the host's name of it
    cgroup(tmp_path, f"fs/{tree}", cpu__cfs_quota_us="150000\n", cpu__cfs_period_us="100000\n")
    assert cgroup_cores(tmp_path / "fs", own) == 1.5


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_cores(tmp_path, tmp_path / "none") is None


def test_a_program_that_does_not_run_says_so(tmp_path: Path) -> None:
    assert machine._version(str(tmp_path / "none"), "--version").startswith("does not say its version: ")


def test_version_and_commit_are_told() -> None:
    assert machine.version()
    assert len(machine.commit()) in (0, *range(7, 42))
