"""What stands in the way of a release is said, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.packaging import release
from tests.packaging.release import git, main, obstacles

READY = {
    "pyproject.toml": '[project]\nname = "sidecarless"\nversion = "1.2.0"\n',
    "meshlib/__init__.py": '__version__ = "1.2.0"\n',
    "CHANGELOG.md": "# Changelog\n\n## 1.2.0 (2026-01-31)\n\n- Something.\n",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name, text in READY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    for name, value in (("user.name", "tests"), ("user.email", "tests@example.org"), ("tag.gpgSign", "false")):
        git(tmp_path, "config", name, value)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--no-gpg-sign", "-m", "all of it")
    return tmp_path


def test_nothing_is_in_the_way_of_a_commit_that_is_ready(clone: Path) -> None:
    assert obstacles(clone) == []


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("meshlib/__init__.py", '__version__ = "1.1.0"\n', "says version 1.1.0, pyproject.toml 1.2.0"),
        ("CHANGELOG.md", "## 1.1.0 (2025-01-31)\n", "no section '## 1.2.0'"),
        ("CHANGELOG.md", "## 1.2.0 (unreleased)\n", "give the day"),
        ("CHANGELOG.md", "## 1.2.0.1 (2026-01-31)\n", "give the day"),
    ],
)
def test_versions_and_the_changelog_agree(clone: Path, file: str, text: str, said: str) -> None:
    (clone / file).write_text(text)
    git(clone, "commit", "--quiet", "--no-gpg-sign", "-am", "changed")
    (only,) = obstacles(clone)
    assert said in only


def test_what_is_not_committed_and_a_tag_that_is_there_are_in_the_way(clone: Path) -> None:
    git(clone, "tag", "v1.2.0")
    (clone / "new.py").write_text("")
    assert ["not committed" in obstacles(clone)[0], "v1.2.0 is there already" in obstacles(clone)[1]] == [True, True]


def test_a_release_is_dry_unless_it_is_asked_for(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "ROOT", clone)
    dry = CliRunner().invoke(main)
    assert (dry.exit_code, git(clone, "tag", "--list")) == (0, "")
    assert "make release GO=1" in dry.output
    wet = CliRunner().invoke(main, ["--go"])
    assert (wet.exit_code, git(clone, "tag", "--list")) == (0, "v1.2.0")
    again = CliRunner().invoke(main, ["--go"])
    assert again.exit_code == 1
    assert "is there already" in again.output


def test_this_repository_says_one_version() -> None:
    wrong = [each for each in obstacles_of_texts() if "meshlib/__init__.py" in each or "has no section" in each]
    assert wrong == []


def obstacles_of_texts() -> list[str]:
    """Of this repository, or of what was unpacked from an sdist."""
    if not (release.ROOT / ".git").exists():
        pytest.skip("not a clone of the repository")
    return obstacles(release.ROOT)
