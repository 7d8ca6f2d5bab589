"""Messages as istioctl's JSON and as SARIF. Text and GitHub's annotations are those of ``resources/report``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from meshlib.analysis.codes import CODES
from meshlib.analysis.messages import Message
from meshlib.problems import Problem, Severity

LEVELS = {Severity.NOTICE: "Info", Severity.WARNING: "Warning", Severity.ERROR: "Error"}
"""Istio's names, from the lowest."""

_SARIF_LEVELS = {Severity.NOTICE: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}
_DOCUMENTATION = "https://istio.io/latest/docs/reference/config/analysis"


def documentation(code: str) -> str:
    """Istio's page about a code; "" for our own."""
    return f"{_DOCUMENTATION}/{code.lower()}/" if code in CODES else ""


def as_json(messages: Sequence[Message]) -> str:
    """A list of objects with the fields of istioctl (code, level, origin, reference, message, documentationUrl), and beside
    them name, file, line, column, path and hint."""
    return json.dumps([_object(message) for message in messages], indent=2) + "\n"


def _object(message: Message) -> dict[str, object]:
    problem = message.problem
    found: dict[str, object] = {"code": problem.code, "level": LEVELS[problem.severity]}
    if message.origin:
        found["origin"] = message.origin
    found["reference"] = f"{problem.file}:{problem.line}" if problem.line else problem.file
    found["message"] = problem.message
    if url := documentation(problem.code):
        found["documentationUrl"] = url
    return found | {
        "name": problem.name,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "hint": problem.hint,
    }


def as_sarif(messages: Sequence[Message], version: str) -> str:
    """SARIF 2.1.0, as code scanning services take it. File names are relative where they were given so."""
    rules: dict[str, dict[str, object]] = {}
    for message in messages:
        rules.setdefault(message.problem.code, _rule(message.problem))
    positions = {code: position for position, code in enumerate(rules)}
    driver = {
        "name": "meshlib",
        "version": version,
        "informationUri": f"{_DOCUMENTATION}/",
        "rules": list(rules.values()),
    }
    results = [_result(message.problem, positions[message.problem.code]) for message in messages]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, indent=2) + "\n"


def _rule(problem: Problem) -> dict[str, object]:
    rule: dict[str, object] = {
        "id": problem.code,
        "shortDescription": {"text": problem.name or problem.code},
        "defaultConfiguration": {"level": _SARIF_LEVELS[problem.severity]},
    }
    if problem.name:
        rule["name"] = problem.name
    if url := documentation(problem.code):
        rule["helpUri"] = url
    return rule


def _result(problem: Problem, rule: int) -> dict[str, object]:
    text = f"{problem.path}: {problem.message}" if problem.path else problem.message
    text += f"\n{problem.hint}" if problem.hint else ""
    result: dict[str, object] = {
        "ruleId": problem.code,
        "ruleIndex": rule,
        "level": _SARIF_LEVELS[problem.severity],
        "message": {"text": text},
    }
    place: dict[str, object] = {"artifactLocation": {"uri": _uri(problem.file)}}
    if problem.line:
        place["region"] = {"startLine": problem.line, "startColumn": max(problem.column, 1)}
    result["locations"] = [{"physicalLocation": place}]
    return result


def _uri(file: str) -> str:
    if file.startswith("<"):
        return quote(file.strip("<>"))
    return Path(file).as_uri() if os.path.isabs(file) else quote(file.replace(os.sep, "/"))
