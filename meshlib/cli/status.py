"""``meshlib status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from meshlib.cli.attached import PROCESS
from meshlib.cli.attached_status import show_attached
from meshlib.cli.options import PLACE, https_rules_option, load_or_exit, make_workload, workload_options

if TYPE_CHECKING:
    from meshlib.compiler.compile import HttpsRules


@click.command(
    epilog="""\b
Examples:
  meshlib status mesh/
  meshlib status mesh/ --namespace prod --labels app=productpage --format json
  meshlib status --attach 4711
  meshlib status --attach /run/app/admin.sock -o json
"""
)
@click.argument("paths", nargs=-1, type=PLACE, metavar="PATH...")
@click.option(
    "--attach", type=PROCESS, metavar="PID|SOCKET|HOST:PORT",
    help="Show a running process that has an admin endpoint (docs/admin.md), instead of files.",
)  # fmt: skip
@click.option(
    "-o",
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@workload_options
@https_rules_option
def status(
    paths: tuple[str, ...],
    attach: str | None,
    style: str,
    workload: str,
    namespace: str,
    labels: str,
    https_rules: HttpsRules,
) -> None:
    """Show what a client with these resources would see: virtual hosts with their rules, clusters with their endpoints, and
    notices.

    With --attach, show the state of a running process: its configuration and sources, clusters in use with the health and
    ejections of their endpoints, certificates, breakers, and what has failed."""
    if attach is not None:
        if paths:
            raise click.UsageError(
                "--attach shows a running process, and files are another matter: give one or the other"
            )
        show_attached(attach, style)
        return
    if not paths:
        raise click.UsageError("give files or folders with resources, or --attach PID for a running process")
    from meshlib.mesh import Mesh

    resources, problems = load_or_exit(paths)
    caller = make_workload(workload, namespace, labels)
    with Mesh(resources, problems, workload=caller, https_rules=https_rules) as mesh:
        data = mesh.describe()
    if style == "json":
        import json

        click.echo(json.dumps(data, indent=2))
        return
    _print(data)


def _print(data: dict[str, Any]) -> None:
    from meshlib.cli.output import table

    click.echo(f"configuration {data['version']}: {data['resources']} resources, seen by {data['workload']}")
    rows = [
        [
            f"{host['host']}:{host['port']}",
            host["resource"] or ("(connections, no http rules)" if host["tcp"] else "(default route)"),
            str(host["rules"]),
        ]
        for host in data["virtual_hosts"]
    ]
    table("virtual hosts", ["host", "claimed by", "rules"], rows)
    rows = [
        [
            c["name"],
            c["balancer"],
            c["limits"] or "-",
            ", ".join(e["address"] + ("" if e["usable"] else " (not ready)") for e in c["endpoints"]) or "none",
        ]
        for c in data["clusters"]
    ]
    table("clusters", ["cluster", "balancer", "limits", "endpoints"], rows)
    for problem in data["problems"]:
        click.echo(f"{problem['severity']}: {problem['file']}:{problem['line']}: {problem['message']}")
