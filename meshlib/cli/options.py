"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from meshlib.problems import MeshError, Problem
from meshlib.sources.environment import parse_labels
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

F = TypeVar("F", bound=Callable[..., object])

EXIT_PROBLEMS = 1
EXIT_USAGE = 2


class _Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A duration as in Istio's YAML (``90s``, ``1h30m``), also in days (``365d``); read as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from meshlib.resources.types import parse_duration

        if isinstance(value, float):
            return value
        text = str(value)
        days = text.removesuffix("d")
        try:
            found = int(days) * 86400.0 if days != text and days.isdecimal() else parse_duration(text)
        except ValueError:
            self.fail(f"{text!r} is not a valid duration; write 90s, 30m, 24h or 365d", param, ctx)
        if not 1 <= found <= LONGEST:
            self.fail(f"{text!r} is not between 1s and {LONGEST // 86400}d", param, ctx)
        return found


SECONDS = _Seconds()
LONGEST = 100 * 365 * 86400
"""Seconds that a certificate may be valid."""


def workload_options(command: F) -> F:
    """--workload, --namespace, --labels."""
    for option in (
        click.option("--labels", default="", metavar="K=V,K=V", help="Labels of the calling workload (sourceLabels)."),
        click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of the caller."),
        click.option("--workload", default="unknown", help="Name of the calling workload."),
    ):
        command = option(command)
    return command


def https_rules_option(command: F) -> F:
    """--https-rules, MESHLIB_HTTPS_RULES."""
    return click.option(
        "--https-rules",
        type=click.Choice(["mesh", "istio"]),
        default="mesh",
        show_default=True,
        envvar="MESHLIB_HTTPS_RULES",
        help="What decides about https URLs: http rules, or as at a sidecar, which sees TLS.",
    )(command)


def make_workload(name: str, namespace: str, labels: str) -> Workload:
    """The workload that the options describe; a usage error when the labels are not pairs."""
    try:
        return Workload(name=name, namespace=namespace, labels=parse_labels(labels, "--labels"))
    except MeshError as error:
        raise click.UsageError(str(error)) from error


def header_of(text: str) -> tuple[str, str]:
    """Name and value of ``-H 'name: value'``; a usage error when it is none."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r} is not a header; write it as -H 'name: value'")
    return name.strip(), value.strip()


def load_or_exit(paths: Sequence[str]) -> tuple[list[Resource], list[Problem]]:
    """The resources of ``paths`` and what is worth saying; prints the problems and exits 1 when there are errors."""
    from meshlib.progress import shown
    from meshlib.resources.loader import load

    with shown(f"reading {', '.join(paths)}"):
        result = load(paths, pipes=True)
    if result.errors:
        for problem in result.errors:
            click.echo(str(problem), err=True)
        count = len(result.errors)
        click.echo(f"{count} error{'s' if count != 1 else ''}; see `meshlib validate`", err=True)
        raise SystemExit(EXIT_PROBLEMS)
    return result.resources, result.problems
