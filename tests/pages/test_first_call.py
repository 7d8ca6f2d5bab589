"""How far it is from nothing to the first routed call, as the README has it."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCK = re.compile(r"(<!-- skip: next [^\n]*-->\n)?```(sh|python|text)\n(.*?)```", re.DOTALL)


def before_the_first_output(text: str) -> list[tuple[str, str]]:
    """Language and content of the blocks that somebody pastes until there is something to see."""
    found: list[tuple[str, str]] = []
    for skipped, language, content in BLOCK.findall(text):
        if language == "text":
            return found
        if not skipped:
            found.append((language, content))
    raise AssertionError("the page shows no output")


def test_three_commands_and_one_file_lead_to_the_first_routed_call() -> None:
    blocks = before_the_first_output(README)
    commands = [
        line for language, content in blocks if language == "sh" for line in content.splitlines() if line.strip()
    ]
    assert len(commands) <= 3
    assert commands[0] == "pip install sidecarless"
    (file,) = [content for language, content in blocks if language == "python"]
    assert file.startswith("# example.py\n")
    assert commands[-1] == "python example.py"
    assert len(file.splitlines()) <= 20


def test_another_command_would_be_counted() -> None:
    more = README.replace("python example.py\n", "python example.py\npip install other\n", 1)
    assert more != README
    assert len([1 for language, _ in before_the_first_output(more) if language == "sh"]) == 3
    assert sum(len(c.splitlines()) for language, c in before_the_first_output(more) if language == "sh") == 4
