"""``exportTo``: which namespaces a resource is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.hosts import is_dns_label

_LOC: Loc = ("spec", "exportTo")
HERE, ALL, NOBODY = ".", "*", "~"


def export_to(
    entries: Sequence[str] | None, namespace: str, *, to_nobody: bool = False, own_namespace: bool = False
) -> Iterator[Notice]:
    """Each namespace once; "*" (and "~", where ``to_nobody`` allows it) alone. ``own_namespace``: no other namespace at all."""
    seen: set[str] = set()
    for index, entry in enumerate(entries or ()):
        loc = (*_LOC, index)
        meant = namespace if entry == HERE else entry
        if meant in seen:
            same = (
                f'"." is this namespace, {namespace}' if meant != entry or entry == namespace else "it is there before"
            )
            yield refused("duplicate-export", loc, f"exportTo names {entry!r} twice: {same}", "remove one")
        elif meant == NOBODY and not to_nobody:
            yield refused("bad-export", loc, 'exportTo "~" (no namespace) is for ServiceEntry only', 'write "."')
        elif meant not in (HERE, ALL, NOBODY) and not is_dns_label(meant):
            yield refused("bad-export", loc, f"{entry!r} is not a namespace", 'a name, "." for this one, "*" for all')
        else:
            seen.add(meant)
    if own_namespace and seen and seen != {namespace}:
        yield refused(
            "export-of-selector",
            _LOC,
            "a rule with workloadSelector is for workloads of its own namespace only",
            'write exportTo: ["."], or leave it out',
        )
    if len(entries or ()) > 1:
        for alone, what in ((ALL, "every namespace"), (NOBODY, "no namespace")):
            if alone in seen:
                yield refused(
                    "export-to-all-and-some",
                    _LOC,
                    f'exportTo has "{alone}" ({what}) together with others',
                    f'keep "{alone}" alone',
                )
