"""A web server that is faster than the clients measured against it: Debian's nginx where it is installed, else a process of
our own that responds alike. By path: ``/same`` has the same head for a second at least, ``/unique`` another one each time,
``/size/N`` a body of N bytes (``SIZES``)."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.backend import OTHER_ADDRESSES, serve
from benchmarks.free_ports import free_port
from benchmarks.processes import backend
from meshlib.bench.processes import nginx_binary
from meshlib.bench.web_backend import Responding

SIZES = (1024, 64 * 1024, 1024 * 1024)
SMALL = b"x" * 64


@contextlib.contextmanager
def web_backend() -> Iterator[tuple[int, str]]:
    """The port on all addresses of ``synthetic.ADDRESSES``, and what listens there."""
    binary = nginx_binary()
    if binary is None:
        with backend("benchmarks.web_backend") as (port, _):
            yield port, "our own backend (nginx is not installed)"
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, _nginx(binary, Path(folder), port):
        yield port, "nginx"


@contextlib.contextmanager
def _nginx(binary: str, folder: Path, port: int) -> Iterator[None]:
    (folder / "size").mkdir()
    for size in SIZES:
        (folder / "size" / str(size)).write_bytes(b"x" * size)
    folder.chmod(0o755)
    listen = " ".join(f"listen {address}:{port};" for address in ("127.0.0.1", *OTHER_ADDRESSES))
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error error;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; keepalive_requests 100000000; tcp_nodelay on; sendfile on; {temporary}\n"
        f"server {{ {listen} root {folder}; default_type text/plain;\n"
        f"location /same {{ return 200 '{SMALL.decode()}'; }}\n"
        f"location /unique {{ add_header X-Id $request_id; return 200 '{SMALL.decode()}'; }} }} }}\n"
    )
    process = subprocess.Popen([binary, "-e", str(folder / "error"), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process, folder / "error")
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    import socket

    until = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"nginx did not start:\n{log.read_text()[-2000:] if log.exists() else ''}")
        time.sleep(0.02)


if __name__ == "__main__":
    serve(Responding)
