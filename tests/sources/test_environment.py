"""An identity as the environment, or options of commands, describe it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.explain import explain
from meshlib.clock import SystemClock
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of
from meshlib.sources.environment import FILES, identity_from_env, parse_bundles
from tests.support.credential_files import REVIEWS, Files, put

NOW = SystemClock.time()
ROOT = Authority.root("cluster.local", NOW)
OTHER = Authority.root("other.example", NOW)
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {ports: [{name: http, port: 9080}]}
"""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path)
    found.write(ROOT.issue(REVIEWS, NOW), ROOT)
    put(tmp_path / "other.pem", pem_of(OTHER.root_der).encode())
    put(tmp_path / "mesh.yaml", SERVICE.encode())
    return found


def environ(files: Files, *names: str) -> dict[str, str]:
    told = dict(zip(FILES, map(str, (files.certificate, files.key, files.bundle)), strict=True))
    return {name: told[name] for name in names or FILES}


def test_without_any_of_the_variables_there_is_none() -> None:
    assert identity_from_env({}) is None
    assert identity_from_env(dict.fromkeys(FILES, "")) is None


@pytest.mark.parametrize("missing", FILES)
def test_what_is_missing_is_named(missing: str, files: Files) -> None:
    told = environ(files)
    del told[missing]
    with pytest.raises(meshlib.errors.MeshError, match=f"^{missing} is required with MESHLIB_"):
        identity_from_env(told)


def test_a_mesh_from_the_environment_has_it(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files.certificate.parent
    for name, value in environ(files).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MESHLIB_BUNDLE", f"{files.bundle}:other.example={folder}/other.pem")
    monkeypatch.setenv("MESHLIB_CONFIG", str(folder / "mesh.yaml"))
    with meshlib.Mesh.from_env() as mesh:
        told = mesh.status()["identity"]
    assert told["identity"] == REVIEWS
    assert told["trust_domains"] == ["cluster.local", "other.example"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.pem", {"": "a.pem"}),
        ("a.pem:", {"": "a.pem"}),
        ("a.pem:b.example=b.pem", {"": "a.pem", "b.example": "b.pem"}),
        ("a.example=a.pem:b.example=/x=y/b.pem", {"a.example": "a.pem", "b.example": "/x=y/b.pem"}),
        ("/run/a=b/roots.pem", {"": "/run/a=b/roots.pem"}),
    ],
)
def test_bundles_are_written_as_paths_are(text: str, wanted: dict[str, str]) -> None:
    assert parse_bundles(text, "MESHLIB_BUNDLE") == wanted


@pytest.mark.parametrize("text", ["a.pem:b.pem", "a.example=a.pem:a.example=b.pem"])
def test_two_bundles_of_one_trust_domain_are_an_error(text: str) -> None:
    with pytest.raises(meshlib.errors.MeshError, match="^MESHLIB_BUNDLE: a.pem and b.pem are both for"):
        parse_bundles(text, "MESHLIB_BUNDLE")


def options(files: Files) -> list[str]:
    return ["--cert", str(files.certificate), "--key", str(files.key), "--bundle", str(files.bundle)]


@pytest.mark.parametrize("way", [["http://reviews:9080/"], ["--inbound", "/"]], ids=["outbound", "inbound"])
def test_explain_takes_it_as_options_and_from_the_environment(way: list[str], files: Files) -> None:
    *more, last = way
    call = [*more, str(files.certificate.parent / "mesh.yaml"), last]
    runner = CliRunner()
    assert runner.invoke(explain, [*options(files), *call]).exit_code == 0
    assert runner.invoke(explain, call, env=environ(files)).exit_code == 0
    put(files.key, b"garbage")
    wrong = runner.invoke(explain, [*options(files), *call])
    assert wrong.exit_code == 1
    assert f"the key {files.key} is not PEM" in wrong.output
    half = runner.invoke(explain, [*options(files)[:4], *call])
    assert half.exit_code == 2
    assert "--bundle is required with --cert and --key" in half.output
