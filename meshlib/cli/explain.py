"""``meshlib explain``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from meshlib.cli.explain_inbound import INBOUND_OPTIONS, explain_inbound, inbound_options
from meshlib.cli.explain_live import explain_live, live_options
from meshlib.cli.options import (
    PLACE,
    as_typed,
    header_of,
    https_rules_option,
    identity_options,
    load_or_exit,
    made_or_exit,
    make_identity,
    make_workload,
    workload_options,
)

if TYPE_CHECKING:
    from meshlib.compiler.compile import HttpsRules

METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@click.command(
    epilog="""\b
Examples:
  meshlib explain mesh/ http://reviews:9080/reviews/0
  meshlib explain mesh/ -X GET http://reviews:9080/ -H 'end-user: jason' --labels app=productpage
  meshlib explain mesh/ http://ratings:9080/ --format json | jq .destinations
  meshlib explain mesh/ grpc://catalog:7001/shop.Catalog/GetProduct -H 'x-canary: yes'
  meshlib explain --live 4711 reviews --failed
  meshlib explain --inbound mesh/ /admin/users --labels app=reviews --principal cluster.local/ns/prod/sa/web
"""
)
@click.argument("paths", nargs=-1, type=PLACE, metavar="PATH... URL")
@live_options
@inbound_options
@click.option("-X", "--request", "method", metavar="METHOD", help="Request method.  [default: GET; POST for gRPC]")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Request header. Repeatable.")
@click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format."
)
@workload_options
@https_rules_option
@identity_options
def explain(
    paths: tuple[str, ...],
    method: str | None,
    headers: tuple[str, ...],
    style: str,
    workload: str,
    namespace: str,
    labels: str,
    https_rules: HttpsRules,
    inbound: bool,
    live: bool,
    last: int | None,
    failed: bool,
    cert: str | None,
    key: str | None,
    bundles: tuple[str, ...],
    **told: object,
) -> None:
    """Show the whole decision for a request: the rule that matches, why each other rule does not, weights, endpoints,
    timeouts, retries and faults. Nothing is sent. The last argument is the URL.

    With --inbound, show what happens to a request that the workload receives, and which AuthorizationPolicy decides. The
    last argument is then the path of the request.

    With --live, show what has happened to the last calls of a running process that has an admin endpoint (docs/admin.md),
    attempt by attempt. The arguments are then the process and a host or route, both optional."""
    if live:
        _nothing_else(method, headers, inbound, **told)
        explain_live(paths, style, last, failed)
        return
    if last is not None or failed:
        raise click.UsageError(
            f"{'--failed' if failed else '--last'} is of calls that have been made: give --live, too"
        )
    if not paths:
        raise click.UsageError("give the resources and then the URL: meshlib explain mesh/ http://reviews:9080/")
    identity = make_identity(cert, key, bundles)
    if inbound:
        who = make_workload(workload, namespace, labels)
        explain_inbound(paths, method, headers, style, who, identity, told)
        return
    given = [name for name, value in told.items() if value]
    if given:
        raise click.UsageError(f"{INBOUND_OPTIONS[given[0]]} is of requests that come in: give --inbound, too")
    *files, url = paths
    url = as_typed(url)
    if method is not None and not METHOD.fullmatch(method):
        raise click.UsageError(f"-X {method!r} is not a method; write it as -X POST")
    if not files or "://" not in url:
        raise click.UsageError("give the resources and then the URL: meshlib explain mesh/ http://reviews:9080/")
    from meshlib.policy.secret_values import url_shown
    from meshlib.problems import MeshError

    resources, problems = load_or_exit(files)
    caller = make_workload(workload, namespace, labels)
    with made_or_exit(resources, problems, workload=caller, https_rules=https_rules, identity=identity) as mesh:
        try:
            found = mesh.explain(method=(method or "GET").upper(), url=url, headers=dict(header_of(h) for h in headers))
        except MeshError as error:
            raise click.UsageError(str(error)) from error
        verb = "POST" if url.startswith("grpc") else (method or "GET").upper()
        if style == "json":
            import json

            click.echo(json.dumps(found.to_dict(), indent=2))
        else:
            click.echo(f"{verb} {url_shown(url)}")
            click.echo(str(found))


def _nothing_else(method: str | None, headers: tuple[str, ...], inbound: bool, **told: object) -> None:
    """A usage error for what describes a request: those of ``--live`` have been made."""
    given = [INBOUND_OPTIONS[name] for name, value in told.items() if value]
    given += [name for name, value in (("-X", method), ("-H", headers), ("--inbound", inbound)) if value]
    if given:
        raise click.UsageError(
            f"{given[0]} describes a request, and --live shows calls that have been made: give one or the other"
        )
