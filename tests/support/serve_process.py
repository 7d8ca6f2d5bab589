"""``meshlib serve`` as a process, with the files that it is given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from tests.support.forked import MAIN, Forked
from tests.support.identities import World

SECONDS = 90.0
ROOT = Path(__file__).parents[2]

SHOP = """
import json, os, time
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
from flask import Flask, request

@asynccontextmanager
async def lifespan(app):
    print("startup", flush=True)
    yield
    print("shutdown", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/")
def home():
    return {"pid": os.getpid()}

@app.post("/length")
async def length(request: Request):
    n = 0
    async for piece in request.stream():
        n += len(piece)
        if n and not os.path.exists("begun"):
            open("begun", "w").close()
    return {"length": n}

flask = Flask("shop")

@flask.get("/")
def flask_home():
    return {"pid": os.getpid()}

@flask.post("/length")
def flask_length():
    n = 0
    while piece := request.stream.read(5):
        n += len(piece)
        open("begun", "w").close()
    return {"length": n}

async def broken(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


class ServeProcess:
    """``with ServeProcess(folder, "shop:app", "--workers", "2") as served``; the folder gets ``shop.py``, ``mesh/`` and, of
    a ``world``, certificates. ``lines``: what it has written so far. ``forked``: whether its start is nothing to the test."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        world: World | None = None,
        resources: str = "",
        own_arguments: bool = False,
        forked: bool = True,
    ) -> None:
        self.folder = folder
        if world is not None:
            self.write(world)
        if not own_arguments:
            (folder / "shop.py").write_text(SHOP)
            (folder / "mesh").mkdir(exist_ok=True)
            self.configure(resources)
            arguments += ("--port", "0", "--config", "mesh")
            if world is not None:
                arguments += ("--cert", "cert.pem", "--key", "key.pem", "--bundle", "bundle.pem")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHLIB_")}
        environment["PYTHONPATH"] = os.pathsep.join(
            map(str, (ROOT, ROOT / "integrations/fastapi", ROOT / "integrations/flask"))
        )
        command = [MAIN, "serve", *arguments, "--port", "0", "--config", "mesh"]
        self.process: Forked | subprocess.Popen[str]
        if forked:
            self.process = Forked(*command, folder=folder, environment=environment)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *command],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def configure(self, resources: str) -> None:
        """All at once, as those do who know that files are watched."""
        (self.folder / "mesh.new").write_text(resources or "# meshlib: empty\n")
        os.replace(self.folder / "mesh.new", self.folder / "mesh" / "all.yaml")

    def write(self, world: World, *trusted: object) -> None:
        """The certificate, key and roots of this moment."""
        svid, bundles = world.source._told or (None, None)
        assert svid is not None
        assert bundles is not None
        for name, content in (
            ("key.pem", svid.key_pem),
            ("cert.pem", svid.chain_pem),
            ("bundle.pem", bundles.pem.encode()),
        ):
            (self.folder / f"{name}.new").write_bytes(content)
        for name in ("bundle.pem", "key.pem", "cert.pem"):
            os.replace(self.folder / f"{name}.new", self.folder / name)

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def says(self, pattern: str, times: int = 1) -> str:
        """Wait for a line like this (the so-manieth)."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        with self._more:
            self._more.wait_for(lambda: len(found()) >= times or self._ended, SECONDS)
            assert len(found()) >= times, "\n".join(self.lines)
            return found()[times - 1]

    @property
    def port(self) -> int:
        return int(self.says(r"serving .* as process \d+, listening on").rsplit(":", 1)[1])

    def begun(self) -> Self:
        """When connections are accepted."""
        self.says("listening on")
        return self

    def ends(self) -> int:
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(60)
        self._reader.join(SECONDS)
        self.process.stdout.close()
