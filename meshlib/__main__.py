"""``python -m meshlib``: the command ``meshlib``, of the interpreter that runs it."""

from __future__ import annotations

from meshlib.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m meshlib")
