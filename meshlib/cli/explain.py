"""``meshlib explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meshlib.cli.options import https_rules_option, load_or_exit, make_workload, workload_options

if TYPE_CHECKING:
    from meshlib.compiler.compile import HttpsRules


@click.command(
    epilog="""\b
Examples:
  meshlib explain mesh/ http://reviews:9080/reviews/0
  meshlib explain mesh/ -X GET http://reviews:9080/ -H 'end-user: jason' --labels app=productpage
  meshlib explain mesh/ http://ratings:9080/ --format json | jq .destinations
  meshlib explain mesh/ grpc://catalog:7001/shop.Catalog/GetProduct -H 'x-canary: yes'
"""
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH... URL")
@click.option("-X", "--request", "method", default="GET", show_default=True, metavar="METHOD", help="Request method.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Request header; repeatable.")
@click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output."
)
@workload_options
@https_rules_option
def explain(
    paths: tuple[str, ...],
    method: str,
    headers: tuple[str, ...],
    style: str,
    workload: str,
    namespace: str,
    labels: str,
    https_rules: HttpsRules,
) -> None:
    """Show the whole decision for a request: the rule taken, why each other rule is not, weights, endpoints, timeouts,
    retries and faults. Nothing is sent. The last argument is the URL."""
    *files, url = paths
    if not files or "://" not in url:
        raise click.UsageError("give the resources and then the URL: meshlib explain mesh/ http://reviews:9080/")
    from meshlib.mesh import Mesh
    from meshlib.problems import MeshError

    resources, problems = load_or_exit(files)
    caller = make_workload(workload, namespace, labels)
    with Mesh(resources, problems, workload=caller, https_rules=https_rules) as mesh:
        try:
            found = mesh.explain(method=method.upper(), url=url, headers=dict(_header(h) for h in headers))
        except MeshError as error:
            raise click.UsageError(str(error)) from error
        verb = "POST" if url.startswith("grpc") else method.upper()
        if style == "json":
            import json

            click.echo(json.dumps(found.to_dict(), indent=2))
        else:
            click.echo(f"{verb} {url}")
            click.echo(str(found))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r} is not a header; write it as -H 'name: value'")
    return name.strip(), value.strip()
