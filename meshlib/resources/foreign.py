"""Files that become resources only when a tool has made them: Helm charts, kustomize overlays, templates.

Read as they stand they would give an error a line. Each chart and each overlay gets one sentence instead, and what is no
resource of it is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshlib.problems import Problem, Severity
from meshlib.resources.yaml_reader import MAX_BYTES, read

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_HARMLESS = frozenset({"apiVersion", "kind", "metadata", "resources", "openapi", "sortOptions"})
_PATCHES = ("patches", "patchesStrategicMerge", "patchesJson6902")
_TEMPLATE = re.compile(
    rb"\{\{-?\s*(?:[.$]|/\*|(?:if|else|end|range|with|include|template|define|block|tpl|toYaml|printf|default|quote|"
    rb"required|lookup)\b)"
)


@dataclass(slots=True)
class Foreign:
    """``left_out`` are files that are not to be read; ``problems`` say why."""

    left_out: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def look(files: Sequence[str], in_folder: bool) -> Foreign:
    """What of these files belongs to charts and overlays. ``in_folder``: they are all that a folder holds."""
    found = Foreign()
    charts: dict[str, None] = {}
    for file in files:
        root = _chart_of(file)
        if root is not None:
            charts[root] = None
            found.left_out.add(file)
    for root in charts:
        shown = root or os.curdir
        found.problems.append(
            _problem(
                "helm-chart",
                Severity.ERROR,
                os.path.join(root, "Chart.yaml"),
                (1, 1),
                "this is a Helm chart: its templates are resources only when they are rendered",
                f"helm template {shown} | meshlib analyze -  (or into a file, and load that)",
            )
        )
    for folder in dict.fromkeys(os.path.dirname(file) for file in files):
        for name in _KUSTOMIZATIONS:
            file = os.path.join(folder, name)
            there = os.path.isfile(file) if in_folder else file in files
            if there and file not in found.left_out:
                _overlay(file, found)
    return found


def _chart_of(file: str) -> str | None:
    """The folder of the chart that a file is a part of."""
    folder, name = os.path.split(file)
    if name == "Chart.yaml":
        return folder
    if name.startswith("values") and os.path.isfile(os.path.join(folder, "Chart.yaml")):
        return folder
    parts = folder.split(os.sep)
    for depth, part in enumerate(parts):
        if part in ("templates", "charts"):
            root = os.sep.join(parts[:depth]) or (os.sep if folder.startswith(os.sep) else "")
            if os.path.isfile(os.path.join(root, "Chart.yaml")):
                return root
    return None


def _overlay(file: str, found: Foreign) -> None:
    try:
        with open(file, "rb") as stream:
            documents, problems = read(stream.read(MAX_BYTES + 1), file)
    except OSError:
        return  # the load says it
    value = documents[0].value if documents and not problems else None
    if not isinstance(value, Mapping):
        return
    found.left_out.add(file)
    does = [key for key in value if key not in _HARMLESS and value[key]]
    folder = os.path.dirname(file)
    others = [r for r in _texts(value.get("resources")) if "://" in r or os.path.isdir(os.path.join(folder, r))]
    if not does and not others:
        return  # a list of the files, which are read anyway
    patches = [os.path.normpath(os.path.join(folder, path)) for path in _patch_files(value)]
    found.left_out.update(patches)
    key = does[0] if does else "resources"
    found.problems.append(
        _problem(
            "kustomize-overlay",
            Severity.ERROR if any(value.get(name) for name in _PATCHES) else Severity.WARNING,
            file,
            documents[0].positions.place((key,)),
            f"this is a kustomize overlay ({', '.join(does or ['resources'])}): what is applied is what it builds, not the "
            "files beside it",
            f"kubectl kustomize {folder or os.curdir} | meshlib analyze -  (or into a file, and load that)",
        )
    )


def _patch_files(value: Mapping[str, object]) -> Iterable[str]:
    yield from (p for p in _texts(value.get("patchesStrategicMerge")) if "\n" not in p)
    for key in ("patches", "patchesJson6902"):
        entries = value.get(key)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping) and isinstance(entry.get("path"), str):
                yield entry["path"]


def _texts(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def template_problem(data: str | bytes, file: str) -> Problem | None:
    """The one sentence about a text that is not YAML, if it is a template."""
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    match = _TEMPLATE.search(raw)
    if match is None:
        return None
    before = raw[: match.start()]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
    return _problem(
        "helm-template",
        Severity.ERROR,
        file,
        (line, column),
        "this is a template, not YAML yet",
        "render the chart first: helm template CHART | meshlib analyze -",
    )


def one_for_all_templates(problems: list[Problem]) -> list[Problem]:
    """A chart has many templates: the sentence about the first of them is enough."""
    found = [problem for problem in problems if problem.code == "helm-template"]
    if len(found) < 2:
        return problems
    more = len(found) - 1
    said = replace(found[0], message=f"{found[0].message}, as {more} other file{'s are' if more > 1 else ' is'}")
    return [said if p is found[0] else p for p in problems if p.code != "helm-template" or p is found[0]]


def _problem(code: str, severity: Severity, file: str, place: tuple[int, int], message: str, hint: str) -> Problem:
    return Problem(code, severity, file, place[0], place[1], "", message, hint)
