"""What is released: the sdist has what building and testing need, and both ways to a wheel lead to the same one."""

from __future__ import annotations

import configparser
import email
import tarfile
from pathlib import Path

import pytest

from tests.packaging.builds import ROOT, build, differences, files_of, tracked, unpacked

pytest.importorskip("hatchling", reason="hatchling is not installed: nothing can be built here")

PACKAGES = ("meshlib", "meshlib_command", "meshlib_fastapi", "meshlib_flask")
OF_SDIST_ALONE = {"PKG-INFO"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def source(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(sdist, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def test_the_sdist_is_the_whole_repository(sdist: Path) -> None:
    """So whoever has it can build, lint and test as from a clone."""
    known = tracked()
    if known is None:
        pytest.skip("not a clone of the repository: there is nothing to compare with")
    with tarfile.open(sdist) as archive:
        there = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {name for name in known if name not in there} == set()
    untracked = there - set(known) - OF_SDIST_ALONE
    assert not {name for name in untracked if "__pycache__" in name or name.endswith((".pyc", ".whl", ".key"))}


def test_a_wheel_of_the_sdist_is_that_of_the_repository(source: Path, wheel: Path, tmp_path: Path) -> None:
    other = build(source, "wheel", tmp_path)
    assert differences(wheel, other) == []
    assert other.name == wheel.name
    assert other.read_bytes() == wheel.read_bytes()


def test_a_difference_is_seen(source: Path, wheel: Path, tmp_path: Path) -> None:
    changed = source / "meshlib" / "workload.py"
    before = changed.read_bytes()
    changed.write_bytes(before + b"\n# another\n")
    try:
        other = build(source, "wheel", tmp_path)
    finally:
        changed.write_bytes(before)
    assert [name for name in differences(wheel, other) if ".dist-info" not in name] == ["meshlib/workload.py"]


def test_the_wheel_has_the_packages_with_their_types_and_nothing_else(wheel: Path) -> None:
    there = files_of(wheel)
    assert {name.partition("/")[0] for name in there if ".dist-info/" not in name} == set(PACKAGES)
    assert [package for package in PACKAGES if f"{package}/py.typed" not in there] == []
    assert [name for name in there if "test_" in Path(name).name and name.endswith(".py")] == []


def test_the_wheel_has_what_the_demos_play(wheel: Path) -> None:
    shop = {p.relative_to(ROOT / "examples/grpc-shop") for p in (ROOT / "examples/grpc-shop").rglob("*_pb2*.py")}
    assert shop
    assert {f"meshlib/demo/shop/app/{path.as_posix()}" for path in shop} <= files_of(wheel).keys()


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    there = files_of(wheel)
    (info,) = {name.partition("/")[0] for name in there if ".dist-info/" in name}
    metadata = email.message_from_bytes(there[f"{info}/METADATA"])
    assert metadata["Name"] == "sidecarless"
    assert "Operating System :: POSIX" in metadata.get_all("Classifier", [])
    assert "Framework :: Pytest" in metadata.get_all("Classifier", [])
    assert not [extra for extra in metadata.get_all("Requires-Dist", []) if "@" in extra], "no direct references"
    points = configparser.ConfigParser()
    points.read_string(there[f"{info}/entry_points.txt"].decode())
    assert dict(points["console_scripts"]) == {"meshlib": "meshlib_command:main", "sidecarless": "meshlib_command:main"}
    assert any(name.endswith("/licenses/LICENSE") for name in there)
