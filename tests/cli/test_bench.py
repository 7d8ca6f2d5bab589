"""``meshlib bench``: what is below it."""

from __future__ import annotations

from click.testing import CliRunner

from meshlib.cli.main import main


def test_help_names_what_is_below() -> None:
    said = CliRunner().invoke(main, ["bench", "--help"])
    assert said.exit_code == 0
    assert "compare" in said.stdout
