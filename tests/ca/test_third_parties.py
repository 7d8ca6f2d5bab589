"""OpenSSL, newer Pythons and a real Envoy take what our authority issues, and go on taking it while it changes."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.free_ports import free_port
from meshlib.ca.rotation import take
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from meshlib.demo.secure.play.envoy_config import PEER, Outbound, Sidecar, write, write_bundle
from meshlib.identity.credentials import Credentials
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.trust_bundles import TrustBundles
from tests.differential.envoy_process import running

CLIENT, SERVER, ENVOY = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server", "envoy"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "ca", "cluster.local", SystemClock())


# -- OpenSSL and Python -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("rsa", [False, True])
def test_openssl_shakes_hands_strictly(tmp_path: Path, rsa: bool, version: str) -> None:
    store = Store.create(tmp_path / "ca", "cluster.local", SystemClock(), rsa=rsa)
    folder, port = store.issue(SERVER, rsa=rsa).folder, free_port()
    common = ["-CAfile", "bundle.pem", "-cert", "cert.pem", "-cert_chain", "cert.pem", "-key", "key.pem"]
    common += ["-x509_strict", "-verify_return_error", version]
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-Verify", "3", "-naccept", "1", "-rev", *common],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _until_open(port, server)
        ran = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-verify", "3", "-ign_eof", *common],
            cwd=folder,
            input="olleh\nCLOSE\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Verify return code: 0 (ok)" in ran.stdout, ran.stderr
        assert "hello" in ran.stdout, "the server has taken the client's certificate too"
    finally:
        server.kill()
        server.communicate(timeout=60)


def _until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Without a connection, which would be the one that it accepts."""
    until = time.monotonic() + 60
    wanted = f":{port:04X} 00000000:0000 0A"
    while wanted not in Path("/proc/net/tcp").read_text():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)


SHAKE = """
import ssl, sys
def context(side):
    made = ssl.SSLContext(side)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_cert_chain("cert.pem", "key.pem")
    made.load_verify_locations("bundle.pem")
    return made
a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
sides = [context(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(a, b, server_hostname="x"),
         context(ssl.PROTOCOL_TLS_SERVER).wrap_bio(c, d, server_side=True)]
for _ in range(10):
    for side in sides:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
        c.write(b.read())
        a.write(d.read())
print([side.getpeercert()["subjectAltName"] for side in sides])
"""


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_pythons_shake_hands_strictly(store: Store, python: str) -> None:
    found = _python(python)
    if found is None:
        pytest.skip(f"Python {python} is not installed: it is not asked")
    folder = store.issue(SERVER).folder
    ran = subprocess.run([found, "-I", "-c", SHAKE], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.stdout.count(f"('URI', '{SERVER}')") == 2, ran.stderr


def _python(version: str) -> str | None:
    """One that runs: pyenv's stand-ins are there for versions that are not active."""
    places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")]
    for place in filter(None, places):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run([place, "-I", "-c", "import ssl"], check=True, capture_output=True, timeout=60)
            return str(place)
    return None


# -- Envoy --------------------------------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Says who called."""

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        text = json.dumps((self.connection.getpeercert() or {}).get("subjectAltName")).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Clients that refuse it are what is tested."""


@contextlib.contextmanager
def served(svid: Svid, bundles: TrustBundles) -> Iterator[int]:
    """A server with this certificate; its port."""
    server = Server(("127.0.0.1", 0), Handler)
    context = Credentials(svid, bundles).server_context(["http/1.1"])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


class Beside:
    """A real Envoy as a sidecar with a certificate of ours."""

    def __init__(self, store: Store, folder: Path, upstream: int, server: str = SERVER) -> None:
        self.store, self.folder = store, folder
        self.inbound, self.outbound, self.admin = free_port(), free_port(), free_port()
        folder.mkdir()
        outbound = [Outbound(self.outbound, upstream, server)]
        sidecar = Sidecar(store.issue(ENVOY).folder, "cluster.local", self.admin, self.inbound, None, outbound)
        bootstrap = write(folder, sidecar, store.current().bundle_pem.decode())
        self.config = json.loads(bootstrap.read_text())

    def call(self, svid: Svid | None, bundles: TrustBundles) -> str:
        """Whom Envoy has seen; the name of the error when it refuses."""
        context = Credentials(svid or self.store.issue(CLIENT).svid, bundles).client_context(["http/1.1"])
        if svid is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=bundles.pem)
        try:
            with httpx.Client(verify=context, timeout=30) as client:
                return client.get(f"https://127.0.0.1:{self.inbound}/").headers[PEER]
        except (httpx.HTTPError, ssl.SSLError) as error:
            return type(error).__name__

    def calls(self) -> tuple[int, str]:
        """What comes back when Envoy calls the server."""
        found = httpx.get(f"http://127.0.0.1:{self.outbound}/", timeout=30)
        return found.status_code, found.text

    def certificates(self) -> set[str]:
        """Serial numbers of what it shows."""
        found = httpx.get(f"http://127.0.0.1:{self.admin}/certs").json()["certificates"]
        return {each["cert_chain"][0]["serial_number"].lower() for each in found if each.get("cert_chain")}

    def has_taken_up(self, svid: Svid) -> bool:
        from cryptography import x509

        wanted = f"{x509.load_der_x509_certificate(svid.leaf).serial_number:x}"
        until = time.monotonic() + 60
        while {each.lstrip("0") for each in self.certificates()} != {wanted}:
            assert time.monotonic() < until, (wanted, self.certificates())
            time.sleep(0.02)
        return True


def eventually(seen: str, call: Callable[[], str]) -> None:
    """Envoy takes up a bundle beside calls: it is asked until it has."""
    until = time.monotonic() + 60
    while (found := call()) != seen:
        assert time.monotonic() < until, found
        time.sleep(0.02)


def test_envoy_with_its_spiffe_validator_calls_and_is_called_through_a_change_of_the_authority(
    store: Store, tmp_path: Path
) -> None:
    server, client = store.issue(SERVER).svid, store.issue(CLIENT).svid
    bundles = store.current().bundles
    foreign = Authority.root("other.test", time.time())
    with served(server, bundles) as port:
        beside = Beside(store, tmp_path / "envoy", port)
        with running(beside.config, beside.admin):
            # both ways, and nobody else
            assert beside.call(client, bundles) == CLIENT
            assert beside.calls() == (200, f'[["URI", "{ENVOY}"]]')
            assert beside.call(None, bundles) in ("ReadError", "RemoteProtocolError")
            stranger = foreign.issue("spiffe://other.test/ns/default/sa/client", time.time())
            assert beside.call(stranger, bundles) in ("ReadError", "RemoteProtocolError")
            liar = Authority.root("cluster.local", time.time()).issue(CLIENT, time.time())
            assert beside.call(liar, bundles) in ("ReadError", "RemoteProtocolError")
            # a renewed certificate is taken up from the files, as they are turned
            assert beside.has_taken_up(store.issue(ENVOY).svid)
            # the authority changes
            take(store)
            write_bundle(beside.folder, "cluster.local", store.current().bundle_pem.decode())
            take(store)
            renewed = store.issue(CLIENT).svid
            both = store.current().bundles
            eventually(CLIENT, lambda: beside.call(renewed, both))
            assert beside.call(client, both) == CLIENT
            take(store)
            write_bundle(beside.folder, "cluster.local", store.current().bundle_pem.decode())
            eventually("ReadError", lambda: beside.call(client, both))
            assert beside.call(renewed, store.current().bundles) == CLIENT


def test_envoy_calls_nobody_but_the_identity_that_it_was_told(store: Store, tmp_path: Path) -> None:
    with served(store.issue(CLIENT).svid, store.current().bundles) as port:
        beside = Beside(store, tmp_path / "envoy", port)
        with running(beside.config, beside.admin):
            assert beside.calls()[0] == 503
            stats = httpx.get(f"http://127.0.0.1:{beside.admin}/stats?filter=fail_verify_san").text
            assert "cluster.out-0.ssl.fail_verify_san: 1" in stats
