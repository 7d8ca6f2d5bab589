"""Commands about a running process, attached to a real one."""

from __future__ import annotations

import json
import os

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from meshlib.cli.attached import PROCESS
from meshlib.cli.main import main
from tests.support.admin import runtime_folder
from tests.support.admin_process import AdminProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="module")
def process(runtime):
    with AdminProcess("unix", runtime) as made:
        yield made


@pytest.fixture(autouse=True)
def found(monkeypatch, runtime):
    runtime_folder(monkeypatch, runtime)


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in args])


def test_status_of_a_process_by_its_number_and_by_its_socket(process):
    for target in (process.pid, process.address, process.address.removeprefix("unix:")):
        result = run("status", "--attach", target)
        assert result.exit_code == 0, result.output
        assert "configuration " in result.output
        assert "127.0.0.1:9082 (ejected, " in result.output
        assert "failures: calls 1 (UH: 1)" in result.output
    assert (
        json.loads(run("status", "--attach", process.pid, "--format", "json").output)["admin"]["address"]
        == process.address
    )


def test_calls_of_a_process_attempt_by_attempt(process):
    result = run("explain", "--live", process.pid, "reviews", "--failed")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "GET reviews:9080/reviews/0?...  200  in " in lines[0]
    assert lines[1].startswith(
        "  VirtualService/default/reviews http[0] -> reviews.default.svc.cluster.local  (config "
    )
    assert lines[2].startswith("  attempt 1: at +0.0 ms  127.0.0.1:9082: 503 after ")
    assert lines[3].startswith("  attempt 2: at +")
    assert "127.0.0.1:9081: 200 after " in lines[3]
    assert len(lines) == 4
    found = json.loads(run("explain", "--live", "ratings", "--format", "json").output)["calls"]
    assert [call["flags"] for call in found] == ["UH"]


def test_top_once_for_people_and_for_scripts(process, monkeypatch):
    monkeypatch.setattr("meshlib.clock.rest", lambda _seconds: None)
    result = run("top", process.pid, "--once")
    assert result.exit_code == 0, result.output
    assert "reviews.default.svc.cluster.local\t\t0.0\t-\t-\t-\t0\t2\t1" in result.output
    hosts = json.loads(run("top", "--once", "-o", "json").output)["hosts"]
    assert {each["host"]: each["ejected"] for each in hosts}["reviews.default.svc.cluster.local"] == 1


def test_nothing_secret_comes_out_of_it(process):
    for args in (("status", "--attach"), ("explain", "--live"), ("status", "-o", "json", "--attach")):
        result = run(*args, process.pid)
        assert result.exit_code == 0
        assert "c4n4ry" not in result.output


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("status", "--attach", "99999999"), 1, "error: there is no process 99999999"),
        (("status", "--attach", "1"), 1, "error: process 1"),
        (("status", "--attach", "10.0.0.1:80"), 2, "can be reached from other machines"),
        (("status", "--attach", "reviews"), 2, "give a PID, a socket, or a loopback address"),
        (("status", "--attach", "/nowhere.sock"), 1, "nothing listens at unix:/nowhere.sock"),
        (("status", "mesh/", "--attach", "1"), 2, "give one or the other"),
        (("status",), 2, "or --attach PID for a running process"),
        (("top", "reviews"), 2, "give a PID, a socket, or a loopback address"),
        (("top", "/nowhere.sock", "--once"), 1, "nothing listens at"),
        (("explain", "--live", "reviews", "ratings"), 2, "'reviews' is not a PID, a socket or an address"),
        (("explain", "--live", "1", "a", "b"), 2, "one host or route"),
        (("explain", "--live", "-X", "POST"), 2, "-X describes a request"),
        (("explain", "--live", "--inbound"), 2, "--inbound describes a request"),
        (("explain", "--live", "--principal", "a"), 2, "--principal describes a request"),
        (("explain", "--failed", "mesh/", "http://a/"), 2, "--failed is of calls that have been made"),
        (("explain", "--last", "3", "mesh/", "http://a/"), 2, "--last is of calls that have been made"),
        (("explain",), 2, "give the resources and then the URL"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_usual_exit_code(process, args, code, said):
    result = run(*args)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_running_processes_are_completed(process):
    def offered(*words: str) -> list[str]:
        complete = ShellComplete(main, {}, "meshlib", "_MESHLIB_COMPLETE")
        return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]

    assert offered("top", "") == [str(process.pid)]
    assert offered("status", "--attach", str(process.pid)[:1]) == [str(process.pid)]
    assert offered("top", "/run/") == ["/run/"]
    assert "top" in offered("to")
    assert "--live" in offered("explain", "--li")
    assert PROCESS.name == "pid|socket"


def test_a_process_that_goes_away_is_said_to_have_gone(runtime, monkeypatch, tmp_path):
    made = AdminProcess(f"unix:{tmp_path}/b.sock", tmp_path)
    monkeypatch.setattr("meshlib.clock.rest", lambda _seconds: made.end())
    result = run("top", f"{tmp_path}/b.sock")
    assert (result.exit_code, "the process has ended" in result.output) == (1, True), result.output
    assert not os.path.exists(tmp_path / "b.sock")
