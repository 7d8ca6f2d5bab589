"""``make typing``: what ``test_typing.py`` asks of mypy, asked of pyright in strict mode, by the interpreter's own packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from tests.typing.test_typing import HERE, marked


@click.command()
@click.argument("pyright", type=click.Path(exists=True, path_type=Path))
def main(pyright: Path) -> None:
    """Exit code 1 when pyright finds something in the application, or misses a mistake."""
    command = [str(pyright), "--outputjson", "--pythonpath", sys.executable, "--project", str(HERE)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    try:
        said = json.loads(ran.stdout)["generalDiagnostics"]
    except (ValueError, KeyError):
        click.echo(
            f"SKIPPED: pyright does not run here (it needs node): {(ran.stdout + ran.stderr).strip()[-500:]}", err=True
        )
        return
    errors = [each for each in said if each["severity"] == "error"]
    wrong = HERE / "wrong" / "clients.py"
    told = {each["range"]["start"]["line"] + 1 for each in errors if Path(each["file"]) == wrong}
    missed = sorted(set(marked(wrong)) - told)
    others = [each for each in errors if Path(each["file"]) != wrong]
    for each in others:
        click.echo(f"{each['file']}:{each['range']['start']['line'] + 1}: {each['message']}")
    if missed:
        click.echo(f"{wrong}: pyright finds nothing wrong in lines {', '.join(map(str, missed))}")
    click.echo(f"pyright: {len(others)} errors in the application, {len(told)} of {len(marked(wrong))} mistakes found")
    sys.exit(1 if others or missed else 0)


if __name__ == "__main__":
    main()
