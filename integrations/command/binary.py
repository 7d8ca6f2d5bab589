"""What the standalone binary begins with (``make binary``). It is one program: nobody else's package can be in ours' place."""

from __future__ import annotations

from meshlib.cli.main import main

main(prog_name="meshlib")
