"""What stands behind the proxy: nginx and nghttpd, at the four addresses of ``synthetic.reviews``, and how many connections
they were given, so that a proxy that connects anew for each request cannot pass as one that does not."""

from __future__ import annotations

import contextlib
import re
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import synthetic
from benchmarks.free_ports import free_port
from benchmarks.proxy_processes import NotMeasured, cores, running
from benchmarks.proxy_tools import environment, found, missing
from meshlib.bench.scene import NGINX_HEAD

ADDRESSES = tuple(address for each in synthetic.ADDRESSES.values() for address in each)
BODY = "x" * 64

_NGINX = (
    NGINX_HEAD
    + """
  keepalive_requests 1000000000; keepalive_timeout 1h;
  client_max_body_size 0; sendfile on; tcp_nodelay on;
  server {{
    listen 127.0.0.1:{status};
    location / {{ stub_status; }}
  }}
  server {{
    {listen}
    {tls}
    default_type text/plain;
    location / {{ return 200 "{body}"; }}
    location /api/ {{
      add_header cache-control "no-cache, no-store"; add_header etag '"$request_id"'; add_header vary accept-encoding;
      add_header strict-transport-security "max-age=31536000"; add_header x-content-type-options nosniff;
      add_header x-response-id $request_id;
      return 200 "{body}";
    }}
    location /once/ {{ keepalive_timeout 0; return 200 "{body}"; }}
  }}
}}
"""
)


@dataclass(frozen=True)
class Nginx:
    """``port``: of its servers, at each of ``ADDRESSES``."""

    port: int
    status: int

    def counts(self) -> tuple[int, int]:
        """Connections that were accepted and requests that came, those of this look among them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.status}/", timeout=10) as response:
            accepted, _, requests = re.findall(r"^ (\d+) (\d+) (\d+) $", response.read().decode(), re.MULTILINE)[0]
        return int(accepted), int(requests)


@contextlib.contextmanager
def nginx(tls: Sequence[str] = ()) -> Iterator[Nginx]:
    """One process on the other core. ``/`` responds with few fields, ``/api/`` with many and no two heads alike, ``/once/``
    closes its connection. ``tls``: lines of its configuration; then the port is TLS only."""
    binary = found("nginx")
    if binary is None:
        raise NotMeasured("no nginx (make proxy-tools)")
    with tempfile.TemporaryDirectory(prefix="meshlib-nginx-") as name:
        folder = Path(name)
        port, status = free_port(), free_port()
        secure = " ssl" if tls else ""
        listen = "\n    ".join(f"listen {address}:{port}{secure} backlog=4096;" for address in ADDRESSES)
        conf = folder / "nginx.conf"
        conf.write_text(_NGINX.format(folder=folder, status=status, listen=listen, body=BODY, tls="\n    ".join(tls)))
        command = [binary, "-p", str(folder), "-e", str(folder / "early.log"), "-c", str(conf)]
        with running(command, (ADDRESSES[-1], port), cores()[1], folder / "nginx.log", environment()):
            yield Nginx(port, status)


@contextlib.contextmanager
def nghttpd() -> Iterator[int]:
    """The port of HTTP/2 servers in plain text, one at each address, on the other core: ``/shop.Catalog/GetItem`` is a gRPC
    message with ``grpc-status: 0`` in the trailers."""
    if missing("nghttpd"):
        raise NotMeasured("no nghttpd (make proxy-tools)")
    binary = found("nghttpd")
    assert binary is not None
    with tempfile.TemporaryDirectory(prefix="meshlib-nghttpd-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "www" / "shop.Catalog").mkdir(parents=True)
        (folder / "www" / "shop.Catalog" / "GetItem").write_bytes(b"\0\0\0\0\x40" + BODY.encode())
        (folder / "www" / "index").write_text(BODY)
        port = free_port()
        for address in ADDRESSES:
            command = [binary, "--no-tls", "-a", address, "-d", str(folder / "www"), "-n", "1"]
            command += ["--trailer", "grpc-status: 0", str(port)]
            log = folder / f"{address}.log"
            stack.enter_context(running(command, (address, port), cores()[1], log, environment()))
        yield port


def connections_to(port: int) -> set[str]:
    """Connections of this machine to a port, those that were closed of late among them: both ends of each."""
    seen = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == port:
            seen.add(f"{fields[1]}-{fields[2]}")
    return seen
