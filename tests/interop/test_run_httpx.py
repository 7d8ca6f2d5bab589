"""What ``make interop`` holds against a run of httpx's own tests; the run itself needs HTTPX_TESTS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.run_httpx import HERE, LIST, read_list, verdict

BARE = {"a": "passed", "b": "passed", "c": "failed", "d": "passed", "e": "skipped"}


def test_nothing_is_wrong_when_what_fails_is_what_is_listed():
    assert verdict(BARE, {**BARE, "b": "failed"}, ["b"], []) == ([], [], [])


def test_a_test_that_fails_only_through_the_mesh_must_be_listed():
    assert verdict(BARE, {**BARE, "b": "failed", "d": "skipped"}, ["b"], [])[0] == ["d"]
    assert verdict(BARE, {name: outcome for name, outcome in BARE.items() if name != "a"}, [], [])[0] == ["a"]


def test_a_listed_test_that_passes_must_be_taken_out():
    assert verdict(BARE, BARE, ["b"], [])[1] == ["b"]
    assert verdict(BARE, BARE, ["b"], ["b"])[1] == [], "unless its outcome is a matter of time"


def test_a_listed_test_must_exist():
    assert verdict(BARE, BARE, ["z"], [])[2] == ["z"]


def test_what_fails_on_httpx_too_does_not_count():
    assert verdict(BARE, {**BARE, "c": "failed", "e": "failed"}, ["c"], []) == ([], [], [])


def test_every_test_has_the_reason_that_stands_above_it():
    reasons, either = read_list("# one\n# and more\nx\n~ y\n\n# two\nz\n")
    assert reasons == {"x": "one and more", "y": "one and more", "z": "two"}
    assert either == {"y"}
    with pytest.raises(ValueError, match="x has no reason"):
        read_list("x\n# late\n")


def test_the_list_can_be_read():
    reasons, _ = read_list(LIST.read_text())
    assert all("::" in test and len(reason) > 20 for test, reason in reasons.items())


@pytest.mark.parametrize(("given", "code", "says"), [("", 0, "SKIPPED"), ("/nowhere", 2, "no conftest.py")])
def test_a_run_without_the_tests_says_so(given: str, code: int, says: str):
    environment = {**os.environ, "HTTPX_TESTS": given}
    done = subprocess.run(
        [sys.executable, str(Path(HERE) / "run_httpx.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert says in done.stdout
