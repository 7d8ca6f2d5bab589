"""MeshConfig's ``meshMTLS.minProtocolVersion``: the oldest TLS of our servers, of each new connection."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from meshlib.mesh import Mesh
from meshlib.serving.tls_minimum import strictest, tls_minimum_of
from tests.support.identities import World
from tests.support.mesh_config import mesh_config
from tests.support.mesh_server import MeshServer

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NEWEST = mesh_config(meshMTLS={"minProtocolVersion": "TLSV1_3"})


def test_it_is_what_the_configuration_of_the_moment_says() -> None:
    with Mesh.from_resources([]) as mesh:
        assert tls_minimum_of(mesh._core) is V12
        mesh.apply([NEWEST])
        assert tls_minimum_of(mesh._core) is V13
        mesh.apply([mesh_config(meshMTLS={"minProtocolVersion": "TLSV1_2"})])
        assert tls_minimum_of(mesh._core) is V12
    assert tls_minimum_of(mesh._core) is V13  # closed


def test_of_several_meshes_the_strictest_that_is_open_counts() -> None:
    with Mesh.from_resources([]) as one, Mesh.from_resources([NEWEST]) as other:
        assert strictest([one._core]) is V12
        assert strictest([one._core, other._core]) is V13
        other.close()
        assert strictest([one._core, other._core]) is strictest([]) is V12


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("nothing is asked")


@pytest.mark.parametrize("offered", [V12, V13])
def test_meshlib_serve_agrees_on_nothing_older_after_a_reload(offered: ssl.TLSVersion) -> None:
    world = World(of_a_mesh=True)
    world.rotate()
    context = world.client()
    context.maximum_version = offered

    def shake(port: int) -> str:
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as plain:
                with context.wrap_socket(plain, server_hostname="reviews") as tls:
                    return tls.version() or ""
        except OSError:
            return "refused"

    with Mesh.from_resources([], identity=world.identity) as mesh, MeshServer(app, mesh) as server:
        assert shake(server.port) == offered.name.replace("_", ".")
        mesh.apply([NEWEST])
        assert shake(server.port) == ("TLSv1.3" if offered is V13 else "refused")
        mesh.apply([])
        assert shake(server.port) == offered.name.replace("_", ".")
