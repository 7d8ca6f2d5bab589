"""What is said of a document by its apiVersion and kind alone, when these do not tell which model reads it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from meshlib.problems import Severity
from meshlib.resources.kinds import KINDS, split_api_version
from meshlib.resources.model_fields import Loc
from meshlib.resources.other_kinds import instead_of


class Said(NamedTuple):
    """A problem whose place is a field of the document."""

    code: str
    message: str
    hint: str
    severity: Severity
    loc: Loc


def no_object(value: object) -> Said:
    """Of a document that is not an object."""
    found = "a list" if isinstance(value, list) else f"{str(value)[:40]!r}"
    hint = "separate resources with ---, or put them below items: of a kind: List"
    return Said(
        "not-a-resource",
        f"a resource is an object with apiVersion and kind, found {found}",
        hint if isinstance(value, list) else "begin with apiVersion: and kind:",
        Severity.ERROR,
        (),
    )


def no_head(value: Mapping[str, object], kind: object, version: object) -> Said:
    """Of an object whose apiVersion or kind is not a string."""
    keys = ", ".join(str(key)[:40] for key in list(value)[:5]) or "(none)"
    if kind is None and version is None:
        # folders of resources hold other YAML too (a chart's values, an OpenAPI document): said, not refused
        return Said(
            "not-a-resource",
            f"not a Kubernetes resource (no apiVersion, no kind): skipped; its keys are {keys}",
            "if it should be one, begin with apiVersion: and kind:",
            Severity.WARNING,
            (),
        )
    wrong = [n for n, v in (("apiVersion", version), ("kind", kind)) if not isinstance(v, str)]
    return Said(
        "not-a-resource",
        f"{' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing or not a text: "
        f"this is not a Kubernetes resource; its keys are {keys}",
        _hint_for_head(kind, version),
        Severity.ERROR,
        (wrong[0],),
    )


def unknown_version(kind: str, version: str) -> Said | None:
    """Of a kind that is known, in a version that is not; None for what is not known at all."""
    known = KINDS.get(kind)
    group, number = split_api_version(version)
    if known is None or known.group != group or number in known.versions:  # of ConfigMaps some are read, all others not
        return None
    versions = ", ".join(_api_versions(kind))
    message = f"apiVersion {version} of {kind} is not known"
    return Said("unknown-version", message, f"write one of: {versions}", Severity.ERROR, ("apiVersion",))


def unknown_kind(kind: str, version: str, severity: Severity) -> Said:
    """Of a kind that means nothing here: ``severity``, and a warning at least where it looks like a slip of the pen."""
    hint = _near_kind(kind, split_api_version(version)[0])
    if hint and severity is Severity.NOTICE:
        severity = Severity.WARNING  # skipping what was meant to be in force is worth more than a notice
    message = f"{kind} ({version}) has no meaning to meshlib: it is skipped"
    return Said("unknown-kind", message, hint or instead_of(kind, version), severity, ("kind",))


def _api_versions(kind: str) -> list[str]:
    known = KINDS[kind]
    return [f"{known.group}/{version}" if known.group else version for version in known.versions]


def _hint_for_head(kind: object, version: object) -> str:
    if isinstance(kind, str) and kind in KINDS:
        return f"write apiVersion: {_api_versions(kind)[0]}"
    if isinstance(version, str):
        group = split_api_version(version)[0]
        kinds = [name for name, known in KINDS.items() if known.group == group]
        return f"write kind: one of {', '.join(kinds)}" if kinds else "add kind:"
    return "begin with apiVersion: and kind:"


def _near_kind(kind: str, group: str) -> str:
    """A hint where the kind or the group looks like a slip of the pen."""
    known = KINDS.get(kind)
    if known is not None:
        # another project's kind of the same name (Gateway API's Gateway) has a group that looks different
        near = difflib.SequenceMatcher(None, group, known.group).ratio() > 0.85 if known.group else False
        return f"did you mean apiVersion: {_api_versions(kind)[0]}?" if near else ""
    of_group = {name.lower(): name for name, k in KINDS.items() if k.group == group}
    close = difflib.get_close_matches(kind.lower(), of_group, n=1, cutoff=0.75)
    return f"did you mean kind: {of_group[close[0]]}?" if close else ""
