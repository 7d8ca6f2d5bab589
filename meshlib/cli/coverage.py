"""``meshlib coverage``."""

from __future__ import annotations

import json
from collections import Counter

import click

from meshlib.cli.options import EXIT_PROBLEMS, PLACE


@click.command(
    epilog="""\b
Examples:
  meshlib coverage mesh/                  what has no or only some effect, and why
  meshlib coverage mesh/ --all            every field
  meshlib coverage mesh/ --strict         for CI: fails unless every field is honoured
  kubectl get vs,dr,se,sidecar -A -o yaml | meshlib coverage -

\b
Exit code: 0 success, 1 errors in the resources or, with --strict, fields that are not honoured, 2 wrong usage.
The same table as a page: docs/semantics.md.
"""
)
@click.argument("paths", nargs=-1, required=True, type=PLACE, metavar="PATH...")
@click.option("--all", "everything", is_flag=True, help="Include fields that are honoured.")
@click.option("--strict", is_flag=True, help="Exit 1 unless every field is honoured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def coverage(paths: tuple[str, ...], everything: bool, strict: bool, as_json: bool) -> None:
    """Show for every field in your resources whether it is honoured, approximated, ignored or not for HTTP clients."""
    from meshlib.compiler.semantics.fields import fields
    from meshlib.compiler.semantics.table import HONOURED, IGNORED, STATUSES
    from meshlib.compiler.semantics.tables import EXTENSIONS
    from meshlib.resources.loader import load

    result = load(paths, keep_positions=True, pipes=True)
    if result.errors:
        for problem in result.errors:
            click.echo(str(problem), err=True)
        click.echo("coverage is reported only for resources that load; see `meshlib validate`", err=True)
        raise SystemExit(EXIT_PROBLEMS)
    rows: list[dict[str, object]] = []
    for resource in result.resources:
        place = {"file": resource.origin.file, "line": resource.origin.line, "resource": resource.id}
        unused = EXTENSIONS.get(resource.kind)
        if unused is not None:
            rows.append({**place, "field": "spec", "status": IGNORED, "does": "loads, no effect", "reason": unused})
        rows += [
            {
                **place,
                "line": resource.line_of(field.loc),
                "field": field.path,
                "status": field.row.status,
                "does": field.row.does,
                "reason": field.row.reason,
            }
            for field in sorted(fields(resource), key=lambda field: resource.line_of(field.loc))
        ]
    counts = Counter(row["status"] for row in rows)
    shown = rows if everything else [row for row in rows if row["status"] != HONOURED]
    if as_json:
        click.echo(json.dumps({"fields": shown, "counts": {status: counts[status] for status in STATUSES}}, indent=2))
    else:
        for row in shown:
            reason = f" ({row['reason']})" if row["reason"] else ""
            click.echo(
                f"{row['file']}:{row['line']}: {row['resource']} {row['field']}: {row['status']}: {row['does']}{reason}"
            )
        click.echo(f"{len(rows)} fields set: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES))
    raise SystemExit(EXIT_PROBLEMS if strict and len(rows) > counts[HONOURED] else 0)
