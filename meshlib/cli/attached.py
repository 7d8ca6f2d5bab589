"""What commands about a running process share: which one, and what is said when it cannot be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

from meshlib.cli.options import EXIT_PROBLEMS
from meshlib.problems import ConfigError, MeshError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from meshlib.admin.attach import Attached


class _Process(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A process that can be asked: shells complete the numbers of those there are, and files."""

    name = "pid|socket"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from meshlib.admin.attach import running

        found = [
            CompletionItem(str(pid), help=str(address)) for pid, address in running() if str(pid).startswith(incomplete)
        ]
        return [*found, CompletionItem(incomplete, type="file")] if "/" in incomplete or not found else found


PROCESS = _Process()


def attached(target: str | None) -> Attached:
    """The process that ``target`` names; says why not, and exits: 2 for what cannot be an address, else 1."""
    from meshlib.admin.attach import attach

    try:
        return attach(target)
    except ConfigError as error:
        problem = error.problems[0]
        raise click.UsageError(f"{problem.message}\n  give a PID, a socket, or a loopback address") from error
    except MeshError as error:
        fail(error)


def fail(error: MeshError) -> NoReturn:
    """Say what is wrong, and exit 1."""
    click.echo(f"error: {error}", err=True)
    raise SystemExit(EXIT_PROBLEMS)
