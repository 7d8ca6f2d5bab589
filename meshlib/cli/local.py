"""``meshlib local``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

NAME = "local-endpoints"
FILE = f"mesh/{NAME}.yaml"
SUFFIXES = (".yaml", ".yml")


@click.command(
    epilog="""\b
Examples:
  meshlib local reviews=:9080                        one server for the host
  meshlib local reviews=v1@:9081,v2@:9082            one for each subset of its DestinationRule
  meshlib local reviews=v1@:9081 ratings=[::1]:8001  several hosts
  meshlib local reviews:9080=:8001                   for one port of the service
  meshlib local api.example.com=unix:///run/fake.sock -o -

\b
Exit code: 0 written, 1 not written, 2 wrong usage.
"""
)
@click.argument("endpoints", nargs=-1, required=True, metavar="HOST=[SUBSET@]ADDRESS[,...]...")
@click.option(
    "-o",
    "--output",
    default=FILE,
    show_default=True,
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="File to write; - prints to standard output.",
)
@click.option(
    "--namespace",
    "-n",
    default="default",
    show_default=True,
    help="Namespace of the resource and of short host names.",
)
def local(endpoints: tuple[str, ...], output: str, namespace: str) -> None:
    """Write a LocalEndpoints resource: the addresses of servers that you run yourself for hosts of the mesh. They replace
    all other endpoints of those hosts, and a host that no other resource defines becomes a service.

    An address is localhost:9081, :9081 (the same), 10.0.0.7:9081, [::1]:9081 or unix:///path; without a port, the port of
    the service is used. An existing file is replaced only if it holds nothing but LocalEndpoints."""
    from meshlib.problems import ConfigError
    from meshlib.resources.endpoints_text import resource_of_words

    try:
        resource = resource_of_words(endpoints, file="meshlib local", name=NAME, namespace=namespace)
    except ConfigError as error:
        wrong = [f"{p.path}: {p.message}; {p.hint}" if p.path else f"{p.message}; {p.hint}" for p in error.problems]
        raise click.UsageError("\n  ".join(wrong)) from error
    said = "".join(c if c.isprintable() else " " for c in " ".join(endpoints))
    text = f"# written by: meshlib local {said}\n{as_yaml(resource)}"
    if output == "-":
        click.echo(text, nl=False)
        return
    if not output.endswith(SUFFIXES):
        raise click.UsageError(
            f"{output} does not end in .yaml, and would not be read from its folder; for example -o {FILE}"
        )
    before = _there(output)
    _write(output, text)
    click.echo(f"wrote {output}: LocalEndpoints/{namespace}/{NAME}")
    for entry in _entries(resource):
        click.echo(f"  {entry}")
    gone = [host for host in before if host not in _hosts(resource)]
    if gone:
        click.echo(f"no longer in it: {', '.join(gone)}")


def as_yaml(resource: Mapping[str, Any]) -> str:
    """The resource as a person would write it; JSON's texts are YAML's."""
    metadata = resource["metadata"]
    lines = [
        f"apiVersion: {resource['apiVersion']}",
        f"kind: {resource['kind']}",
        f"metadata: {{name: {json.dumps(metadata['name'])}, namespace: {json.dumps(metadata['namespace'])}}}",
        "spec:",
        "  hosts:",
    ]
    for entry in resource["spec"]["hosts"]:
        lines.append(f"  - host: {json.dumps(entry['host'])}")
        lines += [f"    {key}: {json.dumps(entry[key])}" for key in ("subset", "port") if key in entry]
        lines.append(f"    addresses: [{', '.join(json.dumps(address) for address in entry['addresses'])}]")
    return "\n".join(lines) + "\n"


def _entries(resource: Mapping[str, Any]) -> list[str]:
    rows = []
    for entry in resource["spec"]["hosts"]:
        host = f"{entry['host']}:{entry['port']}" if "port" in entry else entry["host"]
        subset = f" subset {entry['subset']}" if "subset" in entry else ""
        rows.append(f"{host}{subset}: {', '.join(entry['addresses'])}")
    return rows


def _hosts(resource: Mapping[str, Any]) -> set[str]:
    return {entry["host"] for entry in resource["spec"]["hosts"]}


def _there(file: str) -> list[str]:
    """The hosts of the LocalEndpoints that the file holds. Ends the command when it holds something else."""
    from meshlib.resources.loader import load
    from meshlib.resources.typed import LOCAL_ENDPOINTS

    if not os.path.lexists(file):
        return []
    if not os.path.isfile(file):
        raise click.ClickException(f"{file} is not a regular file; give another one with -o")
    with open(file, "rb") as stream:
        if not stream.read(1 << 16).strip():
            return []
    result = load(file, keep_all=True)
    found: list[Resource] = [*result.resources, *result.broken]
    kinds = [r.id for r in found if not LOCAL_ENDPOINTS.is_kind_of(r)] + [
        f"{o.kind}/{o.namespace}/{o.name}" for o in result.others
    ]
    if kinds:
        raise click.ClickException(f"{file} holds {', '.join(kinds)} and is left as it is; give another file with -o")
    if not found:
        why = str(result.problems[0]) if result.problems else "it holds no resource"
        raise click.ClickException(f"{file} is left as it is: {why}\ngive another file with -o")
    return list(dict.fromkeys(e.host for r in LOCAL_ENDPOINTS.among(result.resources) for e in r.spec.hosts))


def _write(file: str, text: str) -> None:
    """All of it at once: whoever follows the file never sees a part."""
    target = os.path.realpath(file)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise click.ClickException(
            f"the folder {os.path.dirname(file)} does not exist; make it, or give another file with -o"
        )
    temporary = f"{target}.{os.getpid()}.new"
    try:
        with open(temporary, "x", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, target)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise click.ClickException(f"{file} cannot be written: {error.strerror or error}") from error
