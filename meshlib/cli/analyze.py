"""``meshlib analyze``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshlib.cli.options import PLACE, F
from meshlib.problems import Severity

if TYPE_CHECKING:
    from meshlib.analysis.messages import Message

EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_UNREADABLE = 65
EXIT_FOUND = 79
"""Exit codes as of istioctl."""

LEVELS = {"info": Severity.NOTICE, "warning": Severity.WARNING, "error": Severity.ERROR}
_RANK = {severity: rank for rank, severity in enumerate(LEVELS.values())}


class _WrongUsage(click.UsageError):
    exit_code = EXIT_USAGE


class _AsIstioctl(click.Command):
    """Wrong usage ends with istioctl's exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _WrongUsage(error.format_message(), error.ctx) from error


def _level(name: str, default: str, text: str) -> Callable[[F], F]:
    choice = click.Choice(list(LEVELS), case_sensitive=False)
    return click.option(name, type=choice, default=default, show_default=True, help=text)


@click.command(
    cls=_AsIstioctl,
    epilog="""\b
Examples:
  meshlib analyze mesh/                         a folder and all below it
  kubectl get vs,dr,se,gw,sidecar,svc,pods,ns -A -o yaml | meshlib analyze -
  helm template chart/ | meshlib analyze -
  meshlib analyze mesh/ -S 'IST0101=VirtualService default/*'
  meshlib analyze mesh/ --output sarif > analysis.sarif

\b
Exit code, as istioctl's: 0 nothing at or above --failure-threshold (always with --output json), 79 something,
65 a file could not be read, 64 wrong usage, 1 no such path.
The list of messages, and which of Istio's are not reported: docs/analysis.md.
""",
)
@click.argument("paths", nargs=-1, required=True, type=PLACE, metavar="PATH...")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json", "github", "sarif"]),
    default="text",
    show_default=True,
    help="Output format; json has the same fields as istioctl's.",
)
@click.option(
    "--suppress",
    "-S",
    multiple=True,
    metavar="CODE=RESOURCE",
    help="Suppress CODE for RESOURCE, such as 'IST0101=VirtualService default/reviews'; * matches any text. Repeatable.",
)
@click.option(
    "--namespace", "-n", default="", metavar="NAME", help="Show messages about resources in this namespace only."
)
@click.option("--all-namespaces", "-A", is_flag=True, help="Show messages about all namespaces (the default).")
@click.option(
    "--meshConfigFile",
    "mesh_config_file",
    type=click.Path(exists=True, dir_okay=False),
    help="File with Istio's MeshConfig. Without it, the ConfigMap 'istio' among the resources is used, else the defaults.",
)
@_level("--output-threshold", "info", "Lowest level to show.")
@_level("--failure-threshold", "error", "Lowest level that makes the exit code 79.")
@click.option("--ignore-unknown", is_flag=True, help="Do not let files that cannot be read affect the exit code.")
def analyze(
    paths: tuple[str, ...],
    output: str,
    suppress: tuple[str, ...],
    namespace: str,
    all_namespaces: bool,
    mesh_config_file: str | None,
    output_threshold: str,
    failure_threshold: str,
    ignore_unknown: bool,
) -> None:
    """Analyze Istio resources without a cluster, as `istioctl analyze` does: references to things that do not exist,
    conflicts, and settings that have no effect. Each message has Istio's code, the line and a hint."""
    from meshlib.analysis.mesh_config import parse
    from meshlib.analysis.messages import Suppression, messages
    from meshlib.compiler.gateway_problems import gateway_problems
    from meshlib.progress import shown
    from meshlib.resources.loader import load

    if all_namespaces and namespace:
        raise _WrongUsage("--namespace and --all-namespaces contradict each other")
    mesh_config = None
    if mesh_config_file is not None:
        mesh_config, wrong = parse(Path(mesh_config_file).read_bytes(), mesh_config_file)
        if wrong:
            raise click.ClickException(str(wrong[0]))
    suppressions = []
    for text in suppress:
        try:
            suppressions.append(Suppression.parse(text))
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    _warn_of_unknown([suppression.code for suppression in suppressions])
    with shown(f"analyzing {', '.join(paths)}"):
        result = load(paths, pipes=True, keep_all=True, keep_positions=True)
        served = [] if result.errors else [p for p in gateway_problems(result.resources) if p.code != "no-effect"]
        found = [
            message
            for message in messages(result, mesh_config, served)
            if not (namespace and message.namespace and message.namespace != namespace)
            and not any(suppression.fits(message) for suppression in suppressions)
        ]
    found.sort(key=lambda m: (m.problem.file, m.problem.line, m.problem.column, -_RANK[m.problem.severity]))
    visible = [m for m in found if _RANK[m.problem.severity] >= _RANK[LEVELS[output_threshold]]]
    click.echo(_rendered(visible, output, len(result.resources)), nl=False)
    raise SystemExit(_exit_code(found, LEVELS[failure_threshold], output, ignore_unknown))


def _warn_of_unknown(codes: list[str]) -> None:
    from meshlib.analysis.codes import CODES

    for code in codes:
        if code not in CODES:
            click.echo(f"warning: {code} is not a code that is reported here; suppressing it has no effect", err=True)


def _rendered(found: Sequence[Message], output: str, resources: int) -> str:
    from meshlib.analysis.outputs import as_json, as_sarif
    from meshlib.resources.report import render

    if output == "json":
        return as_json(found)
    if output == "sarif":
        from importlib.metadata import version

        return as_sarif(found, version("sidecarless"))
    return render([m.problem for m in found], output, resources=resources)


def _exit_code(found: Sequence[Message], threshold: Severity, output: str, ignore_unknown: bool) -> int:
    if any(m.problem.code == "no-files" for m in found):
        return EXIT_FAILED
    if output == "json":
        return 0
    if any(not m.unreadable and _RANK[m.problem.severity] >= _RANK[threshold] for m in found):
        return EXIT_FOUND
    return EXIT_UNREADABLE if any(m.unreadable for m in found) and not ignore_unknown else 0
