"""What it costs to import the library, in a new interpreter, beside ``import httpx`` in one: CPU time of the process less that
of an interpreter that imports nothing, and resident memory. Bytecode is cached, as pip leaves it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from benchmarks.measure import Row

NOTHING, HTTPX = "pass", "import httpx"
PACKAGE, IMPORTED = "import meshlib", "import meshlib; meshlib.Mesh"
RESOURCE = (
    "{'apiVersion': 'networking.istio.io/v1', 'kind': 'VirtualService', 'metadata': {'name': 'reviews'}, "
    "'spec': {'hosts': ['reviews'], 'http': [{'route': [{'destination': {'host': 'reviews'}}]}]}}"
)
USED = f"import meshlib; mesh = meshlib.Mesh.from_resources([{RESOURCE}]); client = mesh.client()"

_TOLD = """
import time as _time
_cpu = _time.process_time()
try:
    _memory = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
except OSError:
    _memory = 0
print(_cpu, _memory)
"""


@dataclass
class Taken:
    """The least that one program took."""

    cpu: float = float("inf")  # seconds
    memory: int = 0  # KiB; 0: not known here

    def take(self, code: str, environment: dict[str, str]) -> None:
        """Once more."""
        ran = subprocess.run(
            [sys.executable, "-c", code + _TOLD], capture_output=True, text=True, check=True, env=environment
        )
        cpu, memory = ran.stdout.split()
        self.cpu = min(self.cpu, float(cpu))
        self.memory = min(self.memory or int(memory), int(memory))


def imports(quick: bool) -> list[Row]:
    """The import alone, and until a mesh of one VirtualService has a client."""
    taken = {code: Taken() for code in (NOTHING, HTTPX, PACKAGE, IMPORTED, USED)}
    with tempfile.TemporaryDirectory() as cached:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cached}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for code in taken:  # bytecode is written
            Taken().take(code, environment)
        for _ in range(5 if quick else 25):
            for code, least in taken.items():
                least.take(code, environment)
    base = taken[NOTHING].cpu
    httpx, package, imported, used = (taken[code].cpu - base for code in (HTTPX, PACKAGE, IMPORTED, USED))
    details = f"{imported * 1e3:.0f} ms of CPU; import httpx: {httpx * 1e3:.0f} ms"
    rows = [
        Row("import meshlib", package * 1e3, "ms", 60.0, details="CPU; nothing of it is loaded before it is named"),
        Row("import meshlib; meshlib.Mesh, against import httpx", imported / httpx, "x", 2.5, details=details),
        Row(
            "the same and a mesh's first client, against import httpx",
            used / httpx,
            "x",
            details=f"{used * 1e3:.0f} ms of CPU",
        ),
    ]
    if taken[IMPORTED].memory:
        memory, whole, beside = (taken[code].memory / 1024 for code in (IMPORTED, USED, HTTPX))
        details = f"with a mesh's first client: {whole:.0f} MB; import httpx: {beside:.0f} MB"
        rows.insert(2, Row("memory of import meshlib; meshlib.Mesh", memory, "MB", 38.0, details=details))
    return rows
