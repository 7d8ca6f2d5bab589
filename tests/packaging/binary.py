"""``make binary``: the standalone ``meshlib`` of this tree, and whether it runs where there is no Python.

PyInstaller makes a folder with everything, in a venv that has nothing else; ``dist/meshlib-linux-ARCH.tar.xz`` is that folder.
``dist/meshlib-linux-ARCH`` is the same as one file, which unpacks itself in TMPDIR at each start.
Then, as root, an empty root with nothing but the C library and zlib is made, and the proxy in it forwards a request to a server
outside, and tells names over DNS; as one file it forwards, too. Where nobody is root that is said and left out.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import dns.message
import dns.query

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "binary"
MEBIBYTE = 1024 * 1024
SECONDS = 60.0
IMPORTED = ("cryptography", "dns", "h2", "httptools", "ngh2", "uvloop", "watchfiles")
"""Modules of the extras that the binary has, which nothing imports that PyInstaller would see, or not for certain."""
COLLECTED = ("meshlib", "dns.rdtypes")
"""Packages whose modules are looked for as they are needed: dnspython's, by the type of a record."""
MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: PORT}}]
"""


def build(python: str) -> tuple[Path, Path]:
    """The archive, and the one file, made by the PyInstaller of ``python``'s venv."""
    shutil.rmtree(WORK, ignore_errors=True)
    name = f"meshlib-linux-{platform.machine()}"
    archive, one = ROOT / "dist" / f"{name}.tar.xz", ROOT / "dist" / name
    archive.parent.mkdir(exist_ok=True)
    folder = collected(python, "--onedir")
    subprocess.run(["tar", "-C", folder.parent, "-cJf", archive, folder.name], check=True)
    shutil.copy(collected(python, "--onefile"), one)
    return archive, one


def collected(python: str, shape: str) -> Path:
    """What PyInstaller makes: ``--onedir`` a folder, ``--onefile`` a file."""
    to = WORK / shape.strip("-")
    to.mkdir(parents=True)
    subprocess.run(
        [
            *(python, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN"),
            *(shape, "--strip", "--name", "meshlib", "--specpath", to, "--workpath", to / "work"),
            *("--distpath", to, "--collect-data", "meshlib"),
            *(word for name in COLLECTED for word in ("--collect-submodules", name)),
            *("--exclude-module", "meshlib.testing", "--exclude-module", "meshlib.gunicorn"),
            *("--copy-metadata", "sidecarless", "--copy-metadata", "opentelemetry-api"),
            *(word for name in IMPORTED for word in ("--hidden-import", name)),
            ROOT / "integrations" / "command" / "binary.py",
        ],
        check=True,
        cwd=to,
    )
    return to / "meshlib"


def libraries(program: Path) -> list[Path]:
    """What the loader needs for a program: itself, the C library, zlib; of the C library also what is loaded later."""
    said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    found = {Path(path) for path in re.findall(r"(/\S+)", said)}
    of_c = next(path for path in found if path.name.startswith("libc.so"))
    later = (
        "libm.so.6",
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
        "libutil.so.1",
        "libresolv.so.2",
        "libnss_dns.so.2",
    )
    return sorted(found | {of_c.parent / name for name in later if (of_c.parent / name).exists()})


def empty_root(folder: Path, archive: Path) -> None:
    """A root with the archive's content in /opt and the libraries that any distribution has."""
    for name in ("opt", "tmp", "mesh", "dev", "etc"):
        (folder / name).mkdir()
    subprocess.run(["tar", "-C", folder / "opt", "-xJf", archive], check=True)
    for library in libraries(folder / "opt" / "meshlib" / "meshlib"):
        to = folder / library.relative_to("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(os.path.realpath(library), to)
        to.chmod(0o755)


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Nothing."""


FOLDERS, ONE_FILE = "/opt/meshlib/meshlib", "/opt/one"


def proxy(folder: Path, program: str = FOLDERS) -> list[str]:
    """The proxy in the root ``folder``, with an outbound port."""
    return ["chroot", str(folder), program, "proxy", "--config", "/mesh", "--outbound", "127.0.0.1:0"]


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[int]:
    """The port that the proxy listens at; it ends by itself when it is asked to."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines: list[str] = []
        while not (found := re.search(r"listening on 127\.0\.0\.1:(\d+)", lines[-1] if lines else "")):
            line = process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line)
        yield int(found.group(1))
        process.send_signal(2)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def forwards(folder: Path, program: str = FOLDERS) -> None:
    """The proxy in the root ``folder`` checks its resources and forwards a request, with one process and with two."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (folder / "mesh" / "mesh.yaml").write_text(MESH.replace("PORT", str(server.server_address[1])))
        command = proxy(folder, program)
        checked = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=SECONDS)
        assert checked.returncode == 0, checked.stderr
        click.echo(checked.stdout.strip())
        for workers in ("1", "2"):
            with running([*command, "--workers", workers]) as port:
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
                client.request("GET", "/", headers={"Host": "reviews:9080"})
                assert client.getresponse().read() == b"hello"
                client.close()
            click.echo(f"{program} forwards in a root without Python, --workers {workers}")
        server.shutdown()


def tells_names(folder: Path) -> None:
    """The same proxy tells the automatic address of a host of its resources, over DNS."""
    (folder / "etc" / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running([*proxy(folder), "--transparent", "--dns-capture", "--dns-port", str(port)]):
        query = dns.message.make_query("reviews.", "A", use_edns=True)
        (told,) = dns.query.udp(query, "127.0.0.1", SECONDS, port).answer
        assert str(told[0]).startswith("240.240."), told
    click.echo("tells names in a root without Python (--dns-capture)")


def main() -> None:
    archive, one = build(os.path.abspath(sys.argv[1]))
    folder = WORK / "onedir" / "meshlib"
    unpacked = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for made in (archive, one):
        click.echo(
            f"{made.relative_to(ROOT)}: {made.stat().st_size / MEBIBYTE:.0f} MiB, {unpacked / MEBIBYTE:.0f} unpacked"
        )
    if os.geteuid() != 0:
        click.echo("NOT TRIED in a root without Python: chroot needs root")
        return
    with tempfile.TemporaryDirectory() as root:
        empty_root(Path(root), archive)
        forwards(Path(root))
        tells_names(Path(root))
        shutil.copy(one, Path(root) / ONE_FILE.lstrip("/"))
        forwards(Path(root), ONE_FILE)


if __name__ == "__main__":
    main()
