"""Meshes after a fork: their hook comes after those of what they are made of."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import meshlib
from meshlib.mesh.alive import cores, meshes

ORDER = """
import os, sys
registered = []
real = os.register_at_fork
def noting(**hooks):
    registered.append(sys._getframe(1).f_globals["__name__"])
    real(**hooks)
os.register_at_fork = noting
import meshlib
meshlib.Mesh
assert "meshlib.mesh.alive" not in sys.modules, "a mesh is made before anything of a fork matters"
meshlib.Mesh.from_resources([]).client()
print(*[name for name in registered if name.startswith("meshlib.")])
"""


def test_the_locks_and_alarms_of_a_child_are_put_right_before_its_meshes() -> None:
    ran = subprocess.run([sys.executable, "-c", ORDER], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    order = ran.stdout.split()
    before = {"meshlib.alarms", "meshlib.pace", "meshlib.telemetry.tables", "meshlib.transport.upstream.tls"}
    assert before <= set(order)
    assert order[-1] == "meshlib.mesh.alive"


def test_a_mesh_is_known_as_long_as_it_is_held() -> None:
    mesh = meshlib.Mesh.from_resources([])
    assert mesh in meshes
    assert mesh._core in cores()
    mesh.close()
    known = weakref.ref(mesh)
    del mesh
    gc.collect()
    assert known() is None
    assert known() not in meshes
