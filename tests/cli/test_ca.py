"""``meshlib ca``: the command around ``meshlib/ca``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.cli.main import main
from meshlib.security.authority import Authority
from tests.support.broken_svids import signed
from tests.support.stores import is_a_pair, roots_in


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["ca", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = run("init", tmp_path / "ca", "--trust-domain", "cluster.local")
    assert made.exit_code == 0, made.output
    return tmp_path / "ca"


def test_init_says_what_it_made_and_what_is_next(tmp_path: Path) -> None:
    said = run("init", tmp_path / "ca", "--trust-domain", "cluster.local", "--rsa", "--ttl", "365d").output
    assert f"trust it by {tmp_path}/ca/bundle.pem" in said
    assert "next: meshlib ca issue" in said
    root = roots_in(tmp_path / "ca/bundle.pem")[0]
    assert type(root.public_key()).__name__ == "RSAPublicKey"
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days == 365


def test_init_twice_is_refused(folder: Path) -> None:
    again = run("init", folder, "--trust-domain", "cluster.local")
    assert again.exit_code == 1
    assert (
        again.stderr
        == f"meshlib ca: {folder} has a CA already; name a new folder, or remove it yourself: it may hold keys\n"
    )


def test_issue_for_a_service_account_and_for_a_spiffe_id(folder: Path, tmp_path: Path) -> None:
    one = run("issue", folder, "-n", "default", "--service-account", "reviews", "--dns", "reviews", "--ttl", "1h")
    assert one.exit_code == 0, one.output
    assert "issued spiffe://cluster.local/ns/default/sa/reviews, valid until " in one.output
    assert is_a_pair(folder / "issued/ns+default+sa+reviews")
    other = run("issue", folder, "spiffe://cluster.local/a", "--out", tmp_path / "out")
    assert f"use it: --cert {tmp_path}/out/cert.pem --key {tmp_path}/out/key.pem" in other.output
    assert (
        "renewed spiffe://cluster.local/a"
        in run("issue", folder, "spiffe://cluster.local/a", "--out", tmp_path / "out").output
    )
    assert (
        "has the certificate of spiffe://cluster.local/a"
        in run("issue", folder, "spiffe://cluster.local/b", "--out", tmp_path / "out").stderr
    )
    assert run("issue", folder, "spiffe://cluster.local/b", "--out", tmp_path / "out", "--force").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "default"],
        ["--service-account", "a"],
        ["spiffe://cluster.local/a", "-n", "x", "--service-account", "a"],
    ],
)
def test_issue_wants_to_know_for_whom(folder: Path, arguments: list[str]) -> None:
    ran = run("issue", folder, *arguments)
    assert ran.exit_code == 2
    assert "say who the certificate is for" in ran.stderr


@pytest.mark.parametrize("ttl", ["", "5", "0s", "-1h", "1e9d", "99999d", "x"])
def test_a_duration_that_is_none(folder: Path, ttl: str) -> None:
    ran = run("issue", folder, "spiffe://cluster.local/a", "--ttl", ttl)
    assert ran.exit_code == 2
    assert "is not a valid duration" in ran.stderr or "is not between 1s and 36500d" in ran.stderr


def test_issue_without_an_authority_says_how_to_make_one(tmp_path: Path) -> None:
    ran = run("issue", tmp_path, "spiffe://cluster.local/a")
    assert ran.exit_code == 1
    assert f"make one: meshlib ca init {tmp_path}" in ran.stderr


def test_rotate_goes_through_its_steps_and_says_what_is_next(folder: Path) -> None:
    assert (
        run("rotate", folder, "--show").output
        == f"next: trust (start a change): meshlib ca rotate {folder} --step trust\n"
    )
    for step, coming in (("trust", "sign"), ("sign", "drop"), ("drop", "trust")):
        ran = run("rotate", folder)
        assert ran.exit_code == 0, ran.output
        assert ran.output.startswith(f"{step}: ")
        assert ran.output.splitlines()[-1].endswith(f"meshlib ca rotate {folder} --step {coming}")


def test_rotate_out_of_order_is_refused(folder: Path) -> None:
    ran = run("rotate", folder, "--step", "drop")
    assert ran.exit_code == 1
    assert "is not ready for the step drop: the next one is trust" in ran.stderr


def test_nothing_that_is_printed_has_a_key(folder: Path) -> None:
    secrets = [line for file in folder.rglob("*.key") for line in file.read_text().splitlines()[1:-1]]
    assert len(secrets) >= 6
    said = run("issue", folder, "spiffe://cluster.local/a").output + run("rotate", folder).output
    assert not [each for each in secrets if each in said]


def test_a_folder_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run("issue", folder, "spiffe://cluster.local/a", "--out", tmp_path / "file/out")
    assert (ran.exit_code, ran.stderr) == (1, f"meshlib ca: {tmp_path}/file cannot be written: File exists\n")


def test_inspect_says_what_is_there_and_exits_by_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    run("issue", folder, "spiffe://cluster.local/a", "--out", tmp_path / "out")
    whole = run("inspect", folder)
    assert whole.exit_code == 0, whole.output
    assert f"{tmp_path}/out/cert.pem: the certificate of spiffe://cluster.local/a" in whole.output
    assert "\n  chains to    a root in " in whole.output
    told = run("inspect", tmp_path / "out", "--format", "json")
    assert json.loads(told.stdout)[0]["problems"] == []
    other = tmp_path / "other"
    run("init", other, "--trust-domain", "cluster.local")
    wrong = run("inspect", tmp_path / "out/cert.pem", "--bundle", other / "bundle.pem")
    assert wrong.exit_code == 1
    assert f"  problem: it does not chain to any root in {other}/bundle.pem" in wrong.output


def test_inspect_prints_no_escapes_of_others(tmp_path: Path) -> None:
    signer = Authority.root("cluster.local", 1_790_000_000)
    made = signed(signer, 1_790_000_000, subject="\x1b[2Jred")
    (tmp_path / "a.pem").write_bytes(made.public_bytes(Encoding.PEM))
    ran = run("inspect", tmp_path / "a.pem")
    assert "\x1b" not in ran.output
    assert "[2Jred" in ran.output
