"""The private key of an SVID comes out nowhere: not of files that are right, nor of those that are wrong in whatever way.

(tests/test_secrets.py has the tokens, cookies and Secrets of configuration and calls.)
"""

from __future__ import annotations

import base64
import gc
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

import meshlib
from meshlib.cli.main import main
from meshlib.identity.errors import BadCredentials
from meshlib.security.authority import Authority
from tests.support.credential_files import HandAlarms
from tests.support.fake_clock import FakeClock
from tests.support.identities import World
from tests.support.mesh_server import MeshServer, tells
from tests.support.serve_process import ServeProcess
from tests.test_secrets import Outputs, representations

WORLD = World(of_a_mesh=True)
MINE, OTHER = WORLD.rotate(), WORLD.root.issue("spiffe://cluster.local/ns/default/sa/other", WORLD.now)
GARBAGE = base64.b64encode(b"c4n4ry" * 40).decode()
PASSWORD = b"c4n4ry-password"


def form(key_pem: bytes, format_: PrivateFormat, password: bytes | None = None) -> bytes:
    key = load_pem_private_key(key_pem, None)
    return key.private_bytes(Encoding.PEM, format_, BestAvailableEncryption(password) if password else NoEncryption())


def body(pem: bytes) -> list[str]:
    return [line for line in pem.decode().splitlines() if line and not line.startswith("-----")]


def spellings(key_pem: bytes) -> set[str]:
    """How a text might have it: lines of PEM, the number in hexadecimal, decimal and base64, the bytes as Python shows them."""
    key = load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value
    raw = number.to_bytes(32, "big")
    lines = [*body(key_pem), *body(form(key_pem, PrivateFormat.TraditionalOpenSSL))]
    return {
        *(line[:40] for line in lines if len(line) >= 16 and not public(line)),
        f"{number:x}",
        str(number),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        repr(raw)[2:-1],
        ":".join(f"{each:02x}" for each in raw),
    }


def public(line: str) -> bool:
    """The last lines of a key are its public half."""
    return len(line) < 64


SECRETS = {
    *spellings(MINE.key_pem),
    *spellings(OTHER.key_pem),
    GARBAGE[:20],
    "c4n4ry",
}

FORMS: dict[str, Callable[[], bytes]] = {
    "PKCS#8": lambda: MINE.key_pem,
    "SEC 1": lambda: form(MINE.key_pem, PrivateFormat.TraditionalOpenSSL),
}
WRONG: dict[str, tuple[str, Callable[[], bytes]]] = {
    "the key of another": ("key.pem", lambda: OTHER.key_pem),
    "cut off": ("key.pem", lambda: MINE.key_pem[:150]),
    "cut off before its end": ("key.pem", lambda: MINE.key_pem[: MINE.key_pem.index(b"-----END")]),
    "a letter changed": ("key.pem", lambda: MINE.key_pem.replace(body(MINE.key_pem)[0].encode()[:8], b"AAAAAAAA")),
    "garbage": ("key.pem", lambda: f"-----BEGIN PRIVATE KEY-----\n{GARBAGE}\n-----END PRIVATE KEY-----\n".encode()),
    "no PEM": ("key.pem", lambda: GARBAGE.encode()),
    "encrypted": ("key.pem", lambda: form(MINE.key_pem, PrivateFormat.PKCS8, PASSWORD)),
    "two keys": ("key.pem", lambda: MINE.key_pem + OTHER.key_pem),
    "where the certificate should be": ("cert.pem", lambda: MINE.key_pem),
    "before the certificate": ("cert.pem", lambda: MINE.key_pem + MINE.chain_pem),
    "where the roots should be": ("bundle.pem", lambda: MINE.key_pem),
    "among the roots, in JSON": ("bundle.pem", lambda: json.dumps({"keys": [{"kty": "EC", "d": GARBAGE}]}).encode()),
}


def write(folder: Path, name: str = "", content: bytes = b"") -> tuple[Path, Path, Path]:
    files = {"cert.pem": MINE.chain_pem, "key.pem": MINE.key_pem, "bundle.pem": WORLD.bundles().pem.encode()}
    if name:
        files[name] = content
    for file, text in files.items():
        (folder / file).write_bytes(text)
    return folder / "cert.pem", folder / "key.pem", folder / "bundle.pem"


def leaks(text: str) -> list[str]:
    return [line[:200] for line in text.split("\n") if any(secret in line for secret in SECRETS)]


@pytest.fixture
def outputs() -> Iterator[Outputs]:
    """With all that is logged meanwhile, and what representations say while the objects are there."""
    found = Outputs()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    gc.freeze()
    try:
        yield found
    finally:
        gc.unfreeze()
        log.removeHandler(handler)
        log.setLevel(level)
    found.add("logs", stream.getvalue())
    assert found.texts
    for name, text in found.texts.items():
        assert not leaks(text), name


def test_each_spelling_is_found_where_it_is() -> None:
    for make in FORMS.values():
        assert leaks(make().decode())
    raw = load_pem_private_key(MINE.key_pem, None)
    assert leaks(f"{raw.private_numbers()!r} {raw.private_numbers().private_value}")  # type: ignore[union-attr]
    assert not leaks(MINE.chain_pem.decode() + WORLD.bundles().pem)


@pytest.mark.parametrize("name", FORMS)
def test_a_key_that_is_used_is_shown_nowhere(tmp_path: Path, outputs: Outputs, name: str) -> None:
    identity = meshlib.Identity.from_files(*write(tmp_path, "key.pem", FORMS[name]()))
    with meshlib.Mesh.from_resources([], identity=identity) as mesh, MeshServer(tells, mesh) as server:
        with httpx.Client(verify=WORLD.client(), trust_env=False) as client:
            response = client.get(f"https://127.0.0.1:{server.port}/")
        assert response.status_code == 200
        outputs.add("a response", response.text)
        current = identity.current()
        assert current is not None
        outputs.add("representations", representations(), repr(current), repr(current.svid), str(current.svid))
        outputs.add("status", json.dumps(mesh.status(), default=str), *map(repr, mesh.problems))
        outputs.add("explain", mesh.explain(url="http://a.test/"), mesh.explain_inbound(path="/"))
        (tmp_path / "key.pem").write_bytes(OTHER.key_pem)
        identity.current()  # looks at the files, perhaps
        outputs.add("status", json.dumps(mesh.status(), default=str), identity.problem)
    assert "Credentials" in outputs.texts["representations"]


@pytest.mark.parametrize("name", WRONG)
def test_nor_by_what_is_said_of_one_that_is_wrong(tmp_path: Path, outputs: Outputs, name: str) -> None:
    file, content = WRONG[name]
    paths = write(tmp_path, file, content())
    arguments = [f"{option}={path}" for option, path in zip(("--cert", "--key", "--bundle"), paths, strict=True)]
    (tmp_path / "mesh.yaml").write_text("# meshlib: empty\n")
    try:
        with meshlib.Mesh.from_resources([], identity=meshlib.Identity.from_files(*paths)):
            assert name == "before the certificate"
    except BadCredentials as error:
        outputs.raised("the error", error)
        cause = error.__cause__ or error.__context__
        outputs.add("what is behind it", repr(cause))
    waiting = meshlib.Identity.from_files(*paths, wait=True)
    with meshlib.Mesh.from_resources([], identity=waiting) as mesh:
        outputs.add("status", json.dumps(mesh.status(), default=str), waiting.problem, representations())
    done = CliRunner().invoke(main, ["explain", str(tmp_path / "mesh.yaml"), "http://a.test/", *arguments])
    outputs.add("meshlib explain", done.output, repr(done.exception))
    if done.exit_code:
        assert done.output


def test_authorities_show_none_either(outputs: Outputs) -> None:
    """A CA of development, and what it has made."""
    made = Authority.root("cluster.local", WORLD.now)
    issued = made.issue("spiffe://cluster.local/ns/a/sa/b", WORLD.now)
    for secret in spellings(issued.key_pem):
        assert secret not in f"{made!r} {made} {issued!r} {issued}"
    outputs.add("representations", representations(), HandAlarms(FakeClock()))


def test_nor_what_serves_in_processes_of_its_own(tmp_path: Path, outputs: Outputs) -> None:
    with ServeProcess(
        tmp_path, "shop:app", "--workers", "2", "--log-level", "debug", world=WORLD, forked=False
    ) as served:
        served.begun()
        family = [served.process.pid, *children(served.process.pid)]
        assert len(family) >= 3
        for pid in family:
            for what in ("cmdline", "environ", "comm"):
                outputs.add(f"{what} of processes", Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace"))
        (tmp_path / "key.new").write_bytes(OTHER.key_pem)
        (tmp_path / "key.new").rename(tmp_path / "key.pem")
        served.says("is not the key of the certificate")
        served.process.terminate()
        served.ends()
        outputs.add("meshlib serve", *served.lines)
    assert "key.pem" in outputs.texts["cmdline of processes"]


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
