"""Options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import click

from meshlib.problems import MeshError, Problem
from meshlib.sources.environment import FILES, identity_of_files, parse_labels
from meshlib.sources.istiod_environment import identity_of_istiod
from meshlib.workload import DEFAULT, Workload

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from meshlib.identity.identity import Identity
    from meshlib.mesh import Mesh
    from meshlib.mesh.options import MeshOptions
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


class Finite(click.FloatRange):
    """A number within bounds, and a number it is: click's own takes ``nan``, which is within all bounds, and ``inf``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


class _Place(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A file or folder as it was typed: shells complete it, and what is wrong with it is said by who reads it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self.name)]


PLACE, FOLDER = _Place("file"), _Place("dir")
SECONDS = _Seconds()
LONGEST = 100 * 365 * 86400
"""Seconds that a certificate may be valid."""


def workload_options(command: F) -> F:
    """--workload, --namespace, --labels."""
    for option in (
        click.option("--labels", default="", metavar="K=V,K=V", help="Labels of the calling workload (sourceLabels)."),
        click.option(
            "--namespace",
            "-n",
            default=DEFAULT,
            show_default=True,
            help="Namespace of the calling workload.",
        ),
        click.option("--workload", default="unknown", help="Name of the calling workload."),
    ):
        command = option(command)
    return command


def identity_options(command: F) -> F:
    """--cert, --key, --bundle; ``make_identity`` makes of them what is asked for, or of MESHLIB_CERT, _KEY, _BUNDLE."""
    for option in (
        click.option(
            "--bundle", "bundles", multiple=True, type=PLACE, metavar="[TRUST_DOMAIN=]FILE",
            help="Trusted roots, in PEM or as a SPIFFE bundle (JSON). For other trust domains, repeat the option with "
            "other.example=FILE.  [env: MESHLIB_BUNDLE]",
        ),
        click.option("--key", type=PLACE, metavar="FILE", help="Private key of the certificate, in PEM.  [env: MESHLIB_KEY]"),
        click.option(
            "--cert", type=PLACE, metavar="FILE",
            help="Certificate of this workload (an X.509-SVID) and its intermediates, in PEM.  [env: MESHLIB_CERT]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def own_workload_options(command: F) -> F:
    """--workload, --namespace, --labels, --service-account: who the process itself is, before MESHLIB_WORKLOAD and its like."""
    for option in (
        click.option(
            "--service-account", metavar="NAME", help="Service account of this workload.  [env: MESHLIB_SERVICE_ACCOUNT]"
        ),
        click.option(
            "--labels", metavar="K=V,K=V",
            help="Labels of this workload, which policies select it by.  [env: MESHLIB_LABELS]",
        ),
        click.option("--namespace", "-n", help="Namespace of this workload.  [env: MESHLIB_NAMESPACE]"),
        click.option("--workload", metavar="NAME", help="Name of this workload.  [env: MESHLIB_WORKLOAD]"),
    ):  # fmt: skip
        command = option(command)
    return command


def own_workload(name: str | None, namespace: str | None, labels: str | None, service_account: str | None) -> Workload:
    """Who these options say that the process is; the environment says what they do not. Raises ``MeshError``."""
    from meshlib.sources.environment import workload_from_env

    named = {
        "MESHLIB_WORKLOAD": name,
        "MESHLIB_NAMESPACE": namespace,
        "MESHLIB_LABELS": labels,
        "MESHLIB_SERVICE_ACCOUNT": service_account,
    }
    return workload_from_env({**os.environ, **{key: value for key, value in named.items() if value is not None}})


def make_identity(cert: str | None, key: str | None, bundles: Sequence[str], *, wait: bool = False) -> Identity | None:
    """The identity that the options describe, or without any of them the environment; None when neither does. A usage error
    when something is missing. ``wait``: what cannot be used yet may come later."""
    named = ("--cert", "--key", "--bundle") if cert or key or bundles else FILES
    told = (cert or "", key or "", os.pathsep.join(bundles))
    if named is FILES:
        told = (os.environ.get(FILES[0], ""), os.environ.get(FILES[1], ""), os.environ.get(FILES[2], ""))
    try:
        if named is FILES and (found := identity_of_istiod(os.environ)) is not None:
            return found
        return identity_of_files(*told, named=named, wait=wait)
    except MeshError as error:
        raise click.UsageError(str(error)) from error


def https_rules_option(command: F) -> F:
    """--https-rules, MESHLIB_HTTPS_RULES."""
    return click.option(
        "--https-rules",
        type=click.Choice(["mesh", "istio"]),
        default="mesh",
        show_default=True,
        envvar="MESHLIB_HTTPS_RULES",
        help="How https URLs are routed: by http rules, or by tls rules as a sidecar would, which sees only TLS.",
    )(command)


def make_workload(name: str, namespace: str, labels: str) -> Workload:
    """The workload that the options describe; a usage error when the labels are not pairs."""
    try:
        return Workload(name=name, namespace=namespace, labels=parse_labels(as_typed(labels), "--labels"))
    except MeshError as error:
        raise click.UsageError(str(error)) from error


def as_typed(text: str) -> str:
    """What was typed, where the locale knows nothing of UTF-8 (LANG=C): Python keeps bytes beyond ASCII aside there. Not for
    names of files, which must stay as they came."""
    return os.fsencode(text).decode("utf-8", "replace") if not text.isascii() else text


def header_of(text: str) -> tuple[str, str]:
    """Name and value of ``-H 'name: value'``; a usage error when it is none."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r} is not a header; write it as -H 'name: value'")
    return as_typed(name.strip()), as_typed(value.strip())


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


def made_or_exit(resources: Sequence[Resource], problems: Sequence[Problem], **options: Unpack[MeshOptions]) -> Mesh:
    """The mesh of these resources; prints what is wrong with its certificates and exits 1 when they cannot be used."""
    from meshlib.identity.errors import BadCredentials
    from meshlib.mesh import Mesh

    try:
        return Mesh(resources, problems, **options)
    except BadCredentials as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(EXIT_PROBLEMS) from None
