"""``meshlib explain --inbound``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from meshlib.cli.options import as_typed, header_of, load_or_exit, made_or_exit

if TYPE_CHECKING:
    from meshlib.identity.identity import Identity
    from meshlib.workload import Workload

F = TypeVar("F", bound=Callable[..., object])

INBOUND_OPTIONS = {
    "principal": "--principal",
    "source_ip": "--source-ip",
    "destination_ip": "--destination-ip",
    "port": "--port",
    "host": "--host",
    "sni": "--sni",
    "protocol": "--protocol",
    "claims": "--claims",
}
"""By argument of ``mesh.explain_inbound``."""


def inbound_options(command: F) -> F:
    """--inbound and what describes the caller."""
    for option in (
        click.option(
            "--claims",
            metavar="JSON",
            help="Claims of the request's verified token, as a JSON object.  [default: no token]",
        ),
        click.option("--protocol", type=click.Choice(["http", "grpc"]), help="Protocol of the request."),
        click.option("--sni", metavar="NAME", help="Server name (SNI) of the TLS handshake."),
        click.option("--host", metavar="HOST", help="Host header of the request."),
        click.option("--port", type=click.IntRange(1, 65535), help="Port of the container that receives the request."),
        click.option("--destination-ip", metavar="IP", help="Address that receives the request."),
        click.option("--source-ip", metavar="IP", help="Address of the caller."),
        click.option("--principal", metavar="ID", help="SPIFFE ID of the caller's certificate.  [default: plain text]"),
        click.option(
            "--inbound", is_flag=True, help="Explain a request that the workload receives, not one that it makes."
        ),
    ):
        command = option(command)
    return command


def explain_inbound(
    paths: Sequence[str],
    method: str | None,
    headers: Sequence[str],
    style: str,
    workload: Workload,
    identity: Identity | None,
    told: Mapping[str, object],
) -> None:
    """``told``: what was given of ``INBOUND_OPTIONS``."""
    *files, path = paths
    if not files or not path.startswith("/"):
        raise click.UsageError("give the resources and then the path: meshlib explain --inbound mesh/ /admin/users")
    from meshlib.problems import MeshError

    path = as_typed(path)
    given = {name: as_typed(v) if isinstance(v, str) else v for name, v in told.items() if v is not None}
    if "claims" in given:
        given["claims"] = _claims(str(given["claims"]))
    resources, problems = load_or_exit(files)
    with made_or_exit(resources, problems, workload=workload, identity=identity) as mesh:
        try:
            found = mesh.explain_inbound(
                method=method and method.upper(),
                path=path,
                headers=[header_of(header) for header in headers],
                **given,  # type: ignore[arg-type]
            )
        except MeshError as error:
            raise click.UsageError(str(error)) from error
    click.echo(json.dumps(found.to_dict(), indent=2) if style == "json" else str(found))


def _claims(text: str) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--claims is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError(
            '--claims is not an object of JSON such as \'{"iss": "https://idp.example", "sub": "ann"}\''
        )
    return found
