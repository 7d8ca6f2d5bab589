"""Analysis of a text, in which comments say where which code is expected: ``host: nope  # IST0101``."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

from meshlib.analysis import analyze
from meshlib.analysis.finding import Finding
from meshlib.resources.loader import load

_MARK = re.compile(r"#.*\bIST\d{4}\b")
_CODE = re.compile(r"IST\d{4}")


def findings(text: str) -> list[Finding]:
    """All about the resources of a text. Their places can be asked for as long as the text is not too old: now."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "mesh.yaml")
        file.write_text(dedent(text))
        result = load(file, keep_all=True, keep_positions=True)
        return analyze([*result.resources, *result.broken], result.others)


def expect(text: str, *codes: str) -> list[Finding]:
    """Of ``codes``, the text gives just those that its comments name, on their lines. Returns these findings."""
    text = dedent(text)
    wanted = {
        (number, code)
        for number, line in enumerate(text.split("\n"), 1)
        if (mark := _MARK.search(line)) is not None
        for code in _CODE.findall(mark.group())
    }
    assert {code for _, code in wanted} <= set(codes), "a comment names a code that the test does not look at"
    found = [finding for finding in findings(text) if finding.code.id in codes]
    assert {(finding.problem().line, finding.code.id) for finding in found} == wanted, "\n".join(
        str(finding.problem()) for finding in found
    )
    return found
