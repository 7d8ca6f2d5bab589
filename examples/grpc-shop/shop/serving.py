"""What both services need to be processes: their arguments, who they are in the mesh, and how they are told to end.

A service prints one line of JSON with its port once it serves. With ``--lifeline`` it reads commands from standard input,
a word a line (see ``drill.py``), and ends when standard input closes: however its parent dies, it leaves no orphan.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence

import meshlib

GRACE_SECONDS = 1.0
"""How long calls under way may go on when the service is told to end."""
NO_REUSE = (("grpc.so_reuseport", 0),)
"""Server options: two services never share a port by accident."""


def arguments(service: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line: ``--mesh FOLDER``, ``--version``, ``--pod``, ``--port``, ``--lifeline``."""
    parser = argparse.ArgumentParser(prog=f"python -m shop.{service}")
    parser.add_argument("--mesh", required=True, help="folder of the mesh's YAML, watched for changes")
    parser.add_argument("--version", default="v1")
    parser.add_argument("--pod", default="", help="name of the replica; default: service-version")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input closes")
    found = parser.parse_args(argv)
    found.pod = found.pod or f"{service}-{found.version}"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    return found


def mesh_of(service: str, args: argparse.Namespace) -> meshlib.Mesh:
    """The service's view of the mesh: the YAML as seen by this workload."""
    me = meshlib.Workload(args.pod, labels={"app": service, "version": args.version}, service_account=f"shop-{service}")
    return meshlib.Mesh.from_path(args.mesh, watch=True, workload=me)


def announce(port: int) -> None:
    """Tell whoever started this process that it serves, and where."""
    say({"port": port, "pid": os.getpid()})


def say(fact: dict[str, object]) -> None:
    """A line of JSON on standard output."""
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def follow_lifeline(command: Callable[[str], None], end: Callable[[], object]) -> None:
    """Give each line of standard input to ``command``; when there are no more, ``end``, by force if that takes long."""

    def read() -> None:
        for line in sys.stdin:
            command(line.strip())
        end()
        threading.Event().wait(GRACE_SECONDS + 2)
        os._exit(0)

    threading.Thread(target=read, name="lifeline", daemon=True).start()
