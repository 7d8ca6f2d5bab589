"""A real SPIRE: a server and an agent, by whose Workload API two processes get their certificates; they call each other.

Its two programs, ``spire-server`` and ``spire-agent``, are looked for on PATH and in .venv/go-tools; nothing here builds them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshlib
from tests.interop.test_http2_judges import free_port
from tests.interop.test_openssl import resources, says_who
from tests.support.eventually import eventually
from tests.support.go_tools import found
from tests.support.mesh_server import MeshServer
from tests.support.peer_authentication import peer_authentication

CLIENT, SERVER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server"))
AGENT = "spiffe://cluster.local/agent"
SECONDS = 60
MISSING = [name for name in ("spire-server", "spire-agent") if found(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"NO {' and NO '.join(MISSING)} on PATH: certificates of a real SPIRE are NOT tried"
)
SERVER_CONF = """
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  socket_path = "{folder}/server.sock"
  trust_domain = "cluster.local"
  data_dir = "{folder}"
  log_level = "WARN"
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/datastore.sqlite3" }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
"""
AGENT_CONF = """
agent {{
  data_dir = "{folder}"
  log_level = "WARN"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{folder}/agent.sock"
  trust_bundle_path = "{folder}/bundle.pem"
  trust_domain = "cluster.local"
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


class Spire:
    """A server with an agent: ``socket`` is its Workload API, which knows this user as the two workloads, by hint."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self._stack = folder, stack
        port = free_port()
        for name, text in (("server", SERVER_CONF), ("agent", AGENT_CONF)):
            (folder / f"{name}.conf").write_text(text.format(folder=folder, port=port))
        self._start("spire-server", "run", "-config", str(folder / "server.conf"))
        assert eventually(self._healthy, SECONDS)
        (folder / "bundle.pem").write_text(self._ask("bundle", "show"))
        token = self._ask("token", "generate", "-spiffeID", AGENT).split()[-1]
        for who, hint in ((SERVER, "server"), (CLIENT, "client")):
            entry = ["-spiffeID", who, "-parentID", AGENT, "-selector", f"unix:uid:{os.getuid()}", "-hint", hint]
            self._ask("entry", "create", *entry)
        self._start("spire-agent", "run", "-config", str(folder / "agent.conf"), "-joinToken", token)
        self.socket = f"unix://{folder}/agent.sock"

    def _start(self, program: str, *arguments: str) -> None:
        log = self._stack.enter_context((self.folder / f"{program}.log").open("wb"))
        process = subprocess.Popen([found(program) or "", *arguments], stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def _ask(self, *arguments: str) -> str:
        command = [found("spire-server") or "", *arguments, "-socketPath", str(self.folder / "server.sock")]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout

    def _healthy(self) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return "healthy" in self._ask("healthcheck")
        return False


@pytest.fixture(scope="module")
def spire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spire]:
    with contextlib.ExitStack() as stack:
        yield Spire(tmp_path_factory.mktemp("spire"), stack)


def test_two_workloads_of_a_real_spire_know_each_other_by_their_certificates(spire: Spire) -> None:
    ours = meshlib.Identity.from_workload_api(spire.socket, hint="server")
    theirs = meshlib.Identity.from_workload_api(spire.socket, hint="client")
    with meshlib.Mesh.from_resources([peer_authentication("default")], identity=ours) as mesh:
        assert eventually(lambda: ours.ready, SECONDS)
        with MeshServer(says_who(mesh), mesh) as server:
            with meshlib.Mesh.from_resources(resources(server.port, SERVER), identity=theirs) as caller:
                assert eventually(lambda: theirs.ready, SECONDS)
                with caller.client() as client:
                    response = client.get("http://server.test/", timeout=SECONDS)
    assert (response.status_code, response.text) == (200, CLIENT)
