"""The options of a mesh that the environment gives, of those that are not passed."""

from __future__ import annotations

import os

import pytest

import meshlib
from meshlib.mesh.environment import filled_in
from meshlib.mesh.options import MeshOptions
from meshlib.problems import MeshError

CONFIG = {"MESHLIB_CONFIG": os.pathsep.join(["a.yaml", "folder"])}


def test_the_paths_are_separated_as_in_path() -> None:
    assert filled_in({}, CONFIG) == ["a.yaml", "folder"]


@pytest.mark.parametrize("environ", [{}, {"MESHLIB_CONFIG": ""}])
def test_without_a_path_it_is_said_what_to_set(environ: dict[str, str]) -> None:
    with pytest.raises(MeshError, match=r"MESHLIB_CONFIG is not set; set it to .* or use Mesh\.from_path"):
        filled_in({}, environ)


def given(**environ: str) -> MeshOptions:
    options = MeshOptions()
    filled_in(options, {**CONFIG, **environ})
    return options


@pytest.mark.parametrize(
    ("variable", "value", "option", "wanted"),
    [
        ("MESHLIB_HTTPS_RULES", "istio", "https_rules", "istio"),
        ("MESHLIB_ADMIN", "127.0.0.1:15000", "admin", "127.0.0.1:15000"),
        ("MESHLIB_ENVOY_METRICS", "1", "envoy_metrics", True),
        ("MESHLIB_ACCESS_LOG", "stdout", "access_log", "stdout"),
        ("MESHLIB_ACCESS_LOG_RATE", "10/second", "access_log_rate", "10/second"),
    ],
)
def test_a_variable_gives_its_option_unless_it_is_passed(
    variable: str, value: str, option: str, wanted: object
) -> None:
    assert given(**{variable: value})[option] == wanted  # type: ignore[literal-required]
    passed = MeshOptions()
    passed[option] = "passed"  # type: ignore[literal-required]
    filled_in(passed, {**CONFIG, variable: value})
    assert passed[option] == "passed"  # type: ignore[literal-required]


def test_a_format_of_the_environment_belongs_to_the_log_of_the_environment() -> None:
    environ = {**CONFIG, "MESHLIB_ACCESS_LOG": "stdout", "MESHLIB_ACCESS_LOG_FORMAT": "json"}
    passed = MeshOptions(access_log="stderr")
    filled_in(passed, environ)
    assert (passed["access_log"], passed.get("access_log_format")) == ("stderr", None)
    assert given(MESHLIB_ACCESS_LOG="stdout", MESHLIB_ACCESS_LOG_FORMAT="json")["access_log_format"] == "json"


def test_addresses_are_by_host() -> None:
    options = MeshOptions(workload=meshlib.Workload("me", namespace="mine"))
    filled_in(options, {**CONFIG, "MESHLIB_ENDPOINTS": "reviews=:9081"})
    assert options["endpoints"] == {"reviews": [":9081"]}
