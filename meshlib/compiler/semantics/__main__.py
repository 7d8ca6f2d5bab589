"""``python -m meshlib.compiler.semantics > docs/semantics.md``: the table as a page."""

from __future__ import annotations

import sys

from meshlib.compiler.semantics.table import Row
from meshlib.compiler.semantics.tables import EXTENSIONS, TABLES

HEAD = """\
# What every field does

One row a field of every networking resource, made from the table beside the compiler (`meshlib/compiler/semantics`; `make docs`
writes this page). `meshlib coverage PATH...` says the same of your own resources, with file and line.

honoured: as Istio says, held against real Envoy where Envoy decides. approximated: acts, but not in every detail. ignored:
loads without effect. not for this protocol: about TCP, servers or gateways, where an HTTP client has no part.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _line(row: Row) -> str:
    path = f"`{row.path}`" + (f" = `{row.value}`" if row.value else "")
    does = row.does if not row.reason else f"{row.does}; {row.reason}" if row.does else row.reason
    tested = f"[{row.tested.rpartition('/')[2]}](../{row.tested})" if row.tested else ""
    return f"| {path} | {row.status} | {_cell(does)} | {_cell(row.default)} | {tested} |"


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for kind, table in TABLES.items():
        parts.append(f"\n## {kind}\n\n| field | status | here | default | tested in |\n|---|---|---|---|---|\n")
        parts.append("\n".join(_line(row) for row in table.rows) + "\n")
    parts.append("\n## Kinds that load and have no effect yet\n\n| kind | because |\n|---|---|\n")
    parts.append("\n".join(f"| {kind} | {reason} |" for kind, reason in EXTENSIONS.items()) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
