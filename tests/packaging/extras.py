"""``python -m tests.packaging.extras``: every extra, alone in a venv of its own, with the newest and the oldest versions that
it allows: it installs, what it is for can be imported, a first call is routed, `meshlib validate` works and
`meshlib bench` measures."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

import click
from packaging.requirements import Requirement

from tests.packaging.builds import ROOT, build, files_of

CORE = (
    "meshlib.mesh",
    "meshlib.errors",
    "meshlib.cli.main",
    "meshlib.testing.callers",
    "meshlib.compiler.compile",
    "meshlib.proxy.launch",
    "meshlib.bench.run",
)
IMPORTS: dict[str, tuple[str, ...]] = {
    "": ("meshlib.transport.asgi.middleware", "meshlib.transport.wsgi.middleware"),
    "all": ("meshlib_fastapi", "meshlib_flask", "meshlib.serving.http_server", "meshlib.serving.grpc_ports"),
    "demo": ("meshlib.demo.commands", "uvicorn", "watchfiles"),
    "envoy": ("envoy",),
    "fastapi": ("meshlib_fastapi",),
    "flask": ("meshlib_flask",),
    "grpc": (
        "meshlib.transport.grpcio.client.channel",
        "meshlib.transport.grpcio.client.aio_channel",
        "meshlib.transport.grpcio.client.health",
        "meshlib.transport.grpcio.server.threads",
        "meshlib.transport.grpcio.server.loop",
    ),
    "http2": ("meshlib.transport.protocol.http2_ngh2", "meshlib.transport.protocol.http2_h2"),
    "cel": ("meshlib.telemetry.cel", "cel_expr_python.cel"),
    "otel": ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"),
    "proxy": ("meshlib.proxy.supervise", "meshlib.proxy.http2_downstream", "meshlib.proxy.dns_launch", "uvloop"),
    "redis": ("meshlib.transport.core.shared_breaker", "meshlib.transport.core.shared_limits", "redis", "limits"),
    "security": ("meshlib.identity.identity", "meshlib.ca.store", "meshlib.security.svid"),
    "serve": ("meshlib.serving.http_server", "meshlib.serving.wsgi_application", "meshlib.cli.serve"),
    "watch": ("meshlib.sources.watcher", "watchfiles"),
}
"""What each is for; "": without any."""

VALID = "meshlib/demo/bookinfo/config/destination-rules.yaml"
BENCH = ("bench", "--quick", "--only", "library", "--rounds", "1", "--seconds", "0.05")
QUICK = (("", "newest"), ("grpc", "oldest"))
"""What CI runs."""


def lowest(metadata: Message) -> list[str]:
    """``name==version`` for all that is required directly, in the oldest version allowed, extras too."""
    pins: dict[str, str] = {}
    for line in metadata.get_all("Requires-Dist", []):
        required = Requirement(line)
        bounds = [each.version for each in required.specifier if each.operator in (">=", "==", "~=")]
        if bounds:
            pins[required.name] = f"{required.name}=={bounds[0]}"
    return sorted(pins.values())


def metadata_of(wheel: Path) -> Message:
    """The wheel's METADATA."""
    (text,) = (content for name, content in files_of(wheel).items() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(text)


def check(wheel: Path, extra: str, bounds: str, folder: Path) -> str:
    """What is wrong with it, "" when nothing is."""
    python = folder / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    wanted = [f"{wheel}[{extra}]" if extra else str(wheel)]
    if bounds == "oldest":
        pins = folder / "oldest.txt"
        folder.mkdir(parents=True)
        pins.write_text("\n".join(lowest(metadata_of(wheel))) + "\n")
        wanted += ["--constraint", str(pins)]
    modules = (*CORE, *IMPORTS[extra])
    steps: Iterable[list[str]] = (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *wanted,
        ],
        [sys.executable, "-m", "pip", "--python", str(python), "check"],
        [str(python), "-W", "error::SyntaxWarning", "-c", "\n".join(f"import {module}" for module in modules)],
        [str(python), str(ROOT / "tests" / "packaging" / "first_call.py")],
        [str(folder / "bin" / "meshlib"), "validate", str(ROOT / VALID)],
        [str(folder / "bin" / "meshlib"), *BENCH],
    )
    for step in steps:
        ran = subprocess.run(step, capture_output=True, text=True, check=False, env=environment, cwd=folder.parent)
        if ran.returncode:
            return f"{' '.join(step[:6])} ...\n{(ran.stdout + ran.stderr).strip()[-3000:]}"
    return ""


@click.command()
@click.option(
    "--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="This one; else it is built."
)
@click.option("--extra", "extras", multiple=True, type=click.Choice(list(IMPORTS)), help="Just these; repeatable.")
@click.option("--bounds", multiple=True, type=click.Choice(["newest", "oldest"]), default=("newest", "oldest"))
@click.option("--quick", is_flag=True, help="The few that CI runs.")
def main(wheel: Path | None, extras: tuple[str, ...], bounds: tuple[str, ...], quick: bool) -> None:
    """Exit code 1 when one of them cannot be installed, imported or used."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        wheel = (wheel or build(ROOT, "wheel", folder / "wheel")).resolve()
        matrix = QUICK if quick else [(extra, bound) for extra in extras or IMPORTS for bound in bounds]
        failed = 0
        for extra, bound in matrix:
            began = time.monotonic()
            wrong = check(wheel, extra, bound, folder / f"{extra or 'core'}-{bound}")
            failed += bool(wrong)
            verdict = f"FAILED\n{wrong}" if wrong else "ok"
            name = f"sidecarless[{extra}]" if extra else "sidecarless"
            click.echo(f"{name:<24} {bound:<7} {time.monotonic() - began:5.1f} s  {verdict}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
