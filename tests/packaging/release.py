"""``python -m tests.packaging.release``: whether this commit can be released; with ``--go`` its tag. See docs/releasing.md."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click

from tests.packaging.builds import ROOT


def git(root: Path, *arguments: str) -> str:
    """What git says. Raises ``CalledProcessError`` when it fails."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def version_of(root: Path) -> str:
    """That of pyproject.toml."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return version


def obstacles(root: Path) -> list[str]:
    """Why the commit that is checked out cannot be released as it is, each with what to do."""
    version = version_of(root)
    found = []
    written = re.search(r'^__version__ = "(.*)"$', (root / "meshlib/__init__.py").read_text("utf-8"), re.MULTILINE)
    if written is None or written[1] != version:
        told = "none" if written is None else written[1]
        found.append(f"meshlib/__init__.py says version {told}, pyproject.toml {version}: make them the same")
    heading = re.search(rf"^## {re.escape(version)}\b(.*)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if heading is None:
        found.append(f"CHANGELOG.md has no section '## {version}': write one")
    elif re.fullmatch(r" \(\d{4}-\d\d-\d\d\)", heading[1]) is None:
        found.append(f"CHANGELOG.md says '## {version}{heading[1]}': give the day, as '## {version} (2026-01-31)'")
    if git(root, "status", "--porcelain"):
        found.append("there are changes that are not committed: commit them, or start from a fresh clone")
    if git(root, "tag", "--list", tag_of(version)):
        found.append(f"the tag {tag_of(version)} is there already: raise the version")
    return found


def tag_of(version: str) -> str:
    """The name of a release's tag."""
    return f"v{version}"


@click.command()
@click.option("--go", is_flag=True, help="Make the tag; without, only say what would be done.")
def main(go: bool) -> None:
    """Exit code 1 when something stands in the way of a release that was asked for."""
    version, found = version_of(ROOT), obstacles(ROOT)
    for obstacle in found:
        click.echo(f"in the way: {obstacle}", err=True)
    if go and found:
        sys.exit(1)
    if go:
        git(ROOT, "tag", "--annotate", tag_of(version), "--message", f"sidecarless {version}")
        click.echo(f"tagged {tag_of(version)}")
    else:
        click.echo(f"dry: nothing is tagged; make release GO=1 makes the tag {tag_of(version)}")
    click.echo(f"next: git push origin {tag_of(version)}; twine upload dist/sidecarless-{version}*")


if __name__ == "__main__":
    main()
