"""``meshlib completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Examples:
  eval "$(meshlib completion bash)"
  meshlib completion zsh > ~/.zfunc/_meshlib
  meshlib completion fish > ~/.config/fish/completions/meshlib.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes meshlib's commands and options in your shell."""
    from meshlib.cli.main import main

    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"no completion for {shell}")
    click.echo(found(main, {}, "meshlib", "_MESHLIB_COMPLETE").source())
