"""``meshlib validate``."""

from __future__ import annotations

import click

from meshlib.cli.options import EXIT_PROBLEMS, PLACE, make_workload, workload_options


@click.command(
    epilog="""\b
Examples:
  meshlib validate mesh/                        a folder and all below it
  meshlib validate 'mesh/*.yaml' other.yaml     globs and files
  kubectl get vs,dr,se -A -o yaml | meshlib validate -
  meshlib validate mesh/ <(kubectl get service -A -o yaml)
  meshlib validate mesh/ --format github        annotations in a pull request

\b
Exit code: 0 no errors (there may be warnings), 1 errors, 2 wrong usage.
"""
)
@click.argument("paths", nargs=-1, required=True, type=PLACE, metavar="PATH...")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.option("--lenient", is_flag=True, help="Report unknown fields as warnings instead of errors.")
@click.option("--quiet", "-q", is_flag=True, help="Show errors and warnings only, no notices.")
@workload_options
def validate(
    paths: tuple[str, ...], style: str, lenient: bool, quiet: bool, workload: str, namespace: str, labels: str
) -> None:
    """Check Istio resources without a cluster. Reports every problem in every file, with its line and how to fix it."""
    from meshlib.analysis import analyze
    from meshlib.analysis.messages import told_of_compilation, told_of_dumps, told_of_files, told_of_gateways
    from meshlib.compiler.compile import compile_snapshot
    from meshlib.compiler.gateway_problems import gateway_problems
    from meshlib.problems import Severity
    from meshlib.progress import shown
    from meshlib.resources.loader import load
    from meshlib.resources.report import render

    with shown(f"validating {', '.join(paths)}"):
        result = load(paths, lenient=lenient, pipes=True, keep_all=True, keep_positions=True)
        findings = analyze([*result.resources, *result.broken], result.others)
        problems = [*told_of_files(result.problems, findings), *told_of_dumps(result)]
        problems += [finding.problem(Severity.WARNING) for finding in findings]
        if not result.errors:
            snapshot = compile_snapshot(result.resources, make_workload(workload, namespace, labels))
            problems += told_of_compilation(snapshot.problems, findings)
            problems += told_of_gateways(gateway_problems(result.resources), findings)
    if quiet:
        problems = [p for p in problems if p.severity is not Severity.NOTICE]
    click.echo(render(problems, style, resources=len(result.resources)), nl=False)
    raise SystemExit(EXIT_PROBLEMS if result.errors or any(p.severity is Severity.ERROR for p in problems) else 0)
