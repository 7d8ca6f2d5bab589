"""The command line, as a person and as a pipeline use it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from meshlib.cli.main import COMMANDS, main
from tests.support.resources import destination_rule, pod, service, to, virtual_service

GOOD = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    pod("reviews", "v2", 9082),
    destination_rule("reviews", "v1", "v2"),
    virtual_service(
        "reviews",
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("reviews", "v2")]},
        {"match": [{"sourceLabels": {"app": "admin"}}], "route": [to("reviews", "v2")]},
        {"route": [to("reviews", "v1", 75), to("reviews", "v2", 25)], "retries": {"attempts": 3, "retryOn": "5xx"}},
    ),
]

BAD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: ball
spec:
  hosts: [ball]
  http:
  - route:
    - destination:
        host: ball
        subset: v1
        weight: 75
    timeout: 5
"""


@pytest.fixture
def mesh(tmp_path):
    folder = tmp_path / "mesh"
    folder.mkdir()
    for number, resource in enumerate(GOOD):
        (folder / f"{number}.json").write_text(json.dumps(resource))
    return folder


def run(*args: object, **kwargs):
    return CliRunner().invoke(main, [str(a) for a in args], **kwargs)


def test_validate_is_quiet_about_good_resources_and_exits_0(mesh):
    result = run("validate", mesh)
    assert result.exit_code == 0, result.output
    assert "error" not in result.output.replace("0 errors", "")


def test_validate_lists_every_problem_with_place_and_hint_and_exits_1(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    result = run("validate", file)
    assert result.exit_code == 1
    assert f"{file}:12:9: error: spec.http[0].route[0].destination.weight" in result.output
    assert "weight belongs next to destination, in spec.http[0].route[0]" in result.output
    assert f"{file}:13:" in result.output
    assert 'write it as "5s"' in result.output


def test_validate_json_is_for_programs(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    result = run("validate", "--format", "json", file)
    assert result.exit_code == 1
    data = json.loads(result.output)
    codes = {p["code"]: p for p in data["problems"]}
    assert (codes["unknown-field"]["line"], codes["unknown-field"]["column"]) == (12, 9)
    assert codes["bad-duration"]["severity"] == "error"


def test_validate_github_makes_annotations(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    result = run("validate", "--format", "github", file)
    assert result.exit_code == 1
    assert any(
        line.startswith("::error ") and "line=12" in line and "col=9" in line for line in result.output.splitlines()
    )


def test_validate_reads_standard_input():
    result = run("validate", "-", input=BAD)
    assert result.exit_code == 1
    assert "<stdin>:12:9" in result.output


def test_validate_of_nothing_says_so(tmp_path):
    result = run("validate", tmp_path / "nothing.yaml")
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_lenient_lets_unknown_fields_pass_with_a_warning(tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text(BAD.replace("        weight: 75\n    timeout: 5\n", "        fancy: 1\n"))
    assert run("validate", file).exit_code == 1
    result = run("validate", "--lenient", file)
    assert result.exit_code == 0, result.output
    assert "warning" in result.output


def test_explain_prints_the_decision_and_why_each_other_rule_is_not_taken(mesh):
    result = run("explain", mesh, "-X", "GET", "http://reviews:9080/reviews/0", "-H", "end-user: bob")
    assert result.exit_code == 0, result.output
    for words in (
        "http[0]: not taken: header end-user is 'bob', exact 'jason' wanted",
        "http[1]: not taken: not for this client: sourceLabels want app=admin, this workload has no app",
        "-> http[2]: taken: matches everything",
        "75 % to reviews.default.svc.cluster.local/v1 port 9080",
        "127.0.0.1:9081",
        "retry: 3 retries on 5xx",
    ):
        assert words in result.output


def test_explain_looks_with_the_eyes_of_a_workload(mesh):
    result = run("explain", mesh, "http://reviews:9080/", "--workload", "admin-1", "--labels", "app=admin")
    assert "-> http[1]: taken" in result.output


def test_explain_and_status_read_https_urls_as_a_sidecar_when_told_to(tmp_path, monkeypatch):
    (tmp_path / "x.yaml").write_text(
        """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x}
spec: {hosts: [x.test], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
    )
    no_rules = "http rules do not act there"
    assert no_rules not in run("explain", tmp_path, "https://x.test/").stdout
    assert no_rules in run("explain", tmp_path, "https://x.test/", "--https-rules", "istio").stdout
    assert "(default route)" in run("status", tmp_path).stdout
    monkeypatch.setenv("MESHLIB_HTTPS_RULES", "istio")
    assert no_rules in run("explain", tmp_path, "https://x.test/").stdout
    assert "(connections, no http rules)" in run("status", tmp_path).stdout


def test_explain_json_has_the_whole_decision(mesh):
    result = run("explain", mesh, "http://reviews:9080/", "-H", "end-user: jason", "--format", "json")
    data = json.loads(result.output)
    assert (data["resource"], data["rule"], data["subset"]) == ("VirtualService/default/reviews", 0, "v2")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["http://reviews/"], "give the resources and then the URL"),
        (["{mesh}", "reviews"], "give the resources and then the URL"),
        (["{mesh}", "http://reviews/", "-H", "nonsense"], "write it as -H 'name: value'"),
        (["{mesh}", "http://reviews/", "--labels", "nonsense"], "is not key=value"),
    ],
)
def test_wrong_usage_of_explain_says_what_is_right_and_exits_2(mesh, args, words):
    result = run("explain", *[a.format(mesh=mesh) for a in args])
    assert result.exit_code == 2
    assert words in result.output


def test_explain_of_broken_resources_names_the_errors(tmp_path):
    (tmp_path / "bad.yaml").write_text(BAD)
    result = run("explain", tmp_path, "http://ball/")
    assert result.exit_code == 1
    assert "weight belongs next to destination" in result.output


def test_status_shows_hosts_clusters_and_endpoints_plain_when_piped(mesh):
    result = run("status", mesh)
    assert result.exit_code == 0, result.output
    assert "reviews.default.svc.cluster.local:9080\tVirtualService/default/reviews\t2" in result.output
    assert "outbound|9080|v2|reviews.default.svc.cluster.local\tLEAST_REQUEST\t-\t127.0.0.1:9082" in result.output


def test_status_json(mesh):
    data = json.loads(run("status", mesh, "--format", "json").output)
    assert {c["subset"] for c in data["clusters"]} == {"", "v1", "v2"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_MESHLIB_COMPLETE" in result.output


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from parameters(below)


def test_no_option_takes_what_is_no_number():
    """``nan`` is within all bounds of click's own, and no limit at all to what compares with it."""
    numbers = [
        each.type for each in parameters(main) if isinstance(each.type, (click.FloatRange, click.types.FloatParamType))
    ]
    assert len(numbers) >= 4
    for each in numbers:
        for word in ("nan", "inf"):
            with pytest.raises(click.BadParameter):
                each.convert(word, None, None)


@pytest.mark.parametrize("command", ["validate", "analyze", "explain", "status", "completion"])
def test_help_has_examples(command):
    assert "Examples:" in run(command, "--help").output


def test_a_mistyped_command_is_guessed():
    result = run("valdiate")
    assert result.exit_code == 2
    assert "Did you mean validate?" in result.output


def test_ctrl_c_is_a_word_and_130(mesh, monkeypatch):
    """Not 1, which says that the resources are wrong."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("meshlib.resources.loader.load", interrupted)
    ran = CliRunner().invoke(main, ["validate", str(mesh)])
    assert (ran.exit_code, ran.stderr, ran.stdout) == (130, "interrupted\n", "")


def test_what_a_shell_substitutes_for_a_command_is_read():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        stream.write("\n---\n".join(json.dumps(resource) for resource in GOOD))
    try:
        found = run("validate", f"/dev/fd/{reading}")  # <(kubectl get ...)
    finally:
        os.close(reading)
    assert found.exit_code == 0
    assert f"{len(GOOD)} resources loaded" in found.output
