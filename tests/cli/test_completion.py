"""Shells complete what a command takes: commands, options, choices, and files and folders."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from meshlib.cli.main import main


def completions(*words: str) -> list[tuple[str, str]]:
    """(type, value) of what is offered for the last word."""
    found = ShellComplete(main, {}, "meshlib", "_MESHLIB_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [(item.type, item.value) for item in found]


@pytest.mark.parametrize(
    "words",
    [
        ("validate", "mes"),
        ("validate", "mesh/", ""),
        ("analyze", "./"),
        ("analyze", "mesh/", "--meshConfigFile", "m"),
        ("coverage", "mesh"),
        ("status", "mesh"),
        ("explain", "mesh"),
        ("explain", "mesh/", "--cert", "c"),
        ("explain", "mesh/", "--bundle", "b"),
        ("serve", "shop:app", "--config", "mesh"),
        ("serve", "shop:app", "--key", "k"),
        ("ca", "inspect", "mesh-ca/"),
        ("ca", "serve", "mesh-ca", "--tokens", "t"),
        ("local", "a=:1", "-o", "mesh/"),
    ],
)
def test_files_are_completed(words):
    assert completions(*words) == [("file", words[-1])]


@pytest.mark.parametrize(
    "words",
    [
        ("ca", "init", "m"),
        ("ca", "issue", "m", "--out", "x"),
        ("serve", "shop:app", "--app-dir", "a"),
        ("demo", "bookinfo", "--config", "m"),
    ],
)
def test_folders_are_completed(words):
    assert completions(*words) == [("dir", words[-1])]


def test_commands_options_and_choices_are_completed():
    assert ("plain", "validate") in completions("va")
    assert ("plain", "--lenient") in completions("validate", "--le")
    assert completions("validate", "mesh/", "--format", "g") == [("plain", "github")]


def test_what_is_no_file_is_not_completed_as_one():
    assert completions("validate", "mesh/", "--namespace", "d") == []
    assert completions("local", "revie") == []
