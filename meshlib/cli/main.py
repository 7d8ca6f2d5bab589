"""``meshlib``: the command line. Commands are imported when called, so that each pays only for itself."""

from __future__ import annotations

import importlib
import logging
import signal

import click

from meshlib.distribution import require_ours

require_ours()


COMMANDS = {
    "validate": "meshlib.cli.validate:validate",
    "analyze": "meshlib.cli.analyze:analyze",
    "coverage": "meshlib.cli.coverage:coverage",
    "explain": "meshlib.cli.explain:explain",
    "local": "meshlib.cli.local:local",
    "serve": "meshlib.cli.serve:serve",
    "proxy": "meshlib.cli.proxy:proxy",
    "iptables": "meshlib.cli.iptables:iptables",
    "status": "meshlib.cli.status:status",
    "top": "meshlib.cli.top:top",
    "ca": "meshlib.cli.ca:ca",
    "completion": "meshlib.cli.completion:completion",
    "demo": "meshlib.demo.commands:demo",
    "bench": "meshlib.cli.bench:bench",
}
SUMMARIES = {
    "validate": "Check resources and report every problem with its file, line and fix.",
    "analyze": "Find inconsistencies between resources, like istioctl analyze.",
    "coverage": "Show which fields of your resources have an effect, and why others do not.",
    "explain": "Show what the mesh would do with a request, and why.",
    "local": "Write a file that maps hosts of the mesh to servers that you run yourself.",
    "serve": "Serve an application behind the mesh's policies, over mTLS and plain text.",
    "proxy": "Forward the requests of an application that is not Python, as a sidecar does.",
    "iptables": "Lead an application's connections to a transparent proxy without its knowledge.",
    "status": "Show the routes, clusters and endpoints that a client would see, or that a running process sees.",
    "top": "Show how the calls of a running process do, by host.",
    "ca": "Run a certificate authority for development.",
    "completion": "Print a shell completion script.",
    "demo": "Run demo applications that show meshlib at work.",
    "bench": "Measure what meshlib costs on this machine, beside no mesh and a sidecar.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = COMMANDS.get(cmd_name)
        if home is None:
            return None
        module, _, name = home.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def invoke(self, ctx: click.Context) -> object:
        """Ctrl-C ends a command that does not heed it itself by a word and 130, as other programs; click's 1 would say that
        there is something wrong with what was asked about."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted", err=True)
            raise SystemExit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  meshlib validate mesh/
  meshlib analyze mesh/
  meshlib explain mesh/ -X GET http://reviews:9080/reviews/0 -H 'end-user: jason'
  meshlib demo bookinfo
""",
)
@click.version_option(package_name="sidecarless", prog_name="meshlib")
def main() -> None:
    """A service mesh as a Python library: Istio's YAML drives your HTTP calls in process."""
    logging.getLogger("meshlib").addHandler(logging.NullHandler())  # commands say themselves what there is to be said
