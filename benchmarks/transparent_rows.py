"""What it costs a request that iptables have led it to the proxy, and that the mesh has 1,000 hosts: CPU against that of the
same request to the same proxy that its client knows of, and that knows one host. In a network namespace of its own, as root."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import synthetic
from benchmarks.measure import Row
from benchmarks.proxy_backends import nginx
from benchmarks.proxy_load import FEW, Load, wrk
from benchmarks.proxy_processes import NotMeasured, Proxy, cores, on_the_other_core, running, write_resources
from benchmarks.proxy_rounds import not_measured, take_turns

HOSTS, RULES = 1000, 10
GROUP = 1337
CONNECTIONS = 64
MEANT = "10.1.0.5"
"""An address where nobody is."""
LED, KNOWN, MANY = "transparent", "explicit", f"transparent, {HOSTS} hosts of {RULES} rules"
MUST = 1.05
TOOLS = ("unshare", "ip", "iptables-nft", "wrk")
STUDENT = {3: 4.30, 7: 2.45, 15: 2.14}
"""By the number of rounds: of 95 %, two-sided."""


def transparent(quick: bool) -> list[Row]:
    """Both ratios, with their intervals."""
    name = "CPU a request in transparent mode"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None and not Path(f"/usr/sbin/{tool}").exists()]
    if missing or os.geteuid() != 0:
        return [not_measured(name, NotMeasured(f"no {', '.join(missing)}" if missing else "not root"))]
    command = ["unshare", "--net", sys.executable, "-m", "benchmarks.transparent_rows", *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        return [not_measured(name, NotMeasured(done.stderr.strip().splitlines()[-1] if done.stderr else "it ended"))]
    taken = json.loads(done.stdout.splitlines()[-1])
    return [
        _row("CPU a request, transparent / explicit", taken[LED], taken[KNOWN], taken["waited"]),
        _row(f"CPU a request, {HOSTS} hosts of {RULES} rules / one host", taken[MANY], taken[LED], taken["waited"]),
    ]


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of paired rounds, of 95 %."""
    logs = [math.log(each) for each in ratios]
    middle = statistics.fmean(logs)
    wide = STUDENT[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - wide), math.exp(middle + wide)


def _row(name: str, ours: Sequence[float], theirs: Sequence[float], waited: float) -> Row:
    value, low, high = interval([a / b for a, b in zip(ours, theirs, strict=True)])
    details = f"95 %: {low:.3f} to {high:.3f} in {len(ours)} rounds; {statistics.median(ours):.1f} against "
    details += f"{statistics.median(theirs):.1f} us"
    if waited > 0.1:
        details += f"; NOT AN IDLE MACHINE: waited for its core {waited:.0%} of the time"
    return Row(f"proxy, {name}", value, "x", MUST, True, details, {"low": low, "high": high})


# -- inside the namespace ------------------------------------------------------------------------------------------------


def _many() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number in range(HOSTS):
        host = f"host-{number}.test"
        spec = {
            "hosts": [host],
            "resolution": "STATIC",
            "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": 1}}],
        }
        rules = [
            {"match": [{"uri": {"prefix": f"/{rule}/"}}], "route": [{"destination": {"host": host}}]}
            for rule in range(RULES)
        ]
        for kind, what in (("ServiceEntry", spec), ("VirtualService", {"hosts": [host], "http": rules})):
            made.append(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": kind,
                    "metadata": {"name": f"host-{number}", "namespace": "default"},
                    "spec": what,
                }
            )
    return made


def _inside(quick: bool) -> dict[str, Any]:
    for line in (
        "link set lo up",
        "link add out type veth peer name other",
        "link set other up",
        "addr add 10.1.0.1/16 dev out",
        "link set out up",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    meshlib = [sys.executable, "-c", "from meshlib.cli.main import main; main()"]
    rounds, seconds = (7, 1) if quick else (15, 2)
    with (
        on_the_other_core(),
        tempfile.TemporaryDirectory(prefix="meshlib-led-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        os.chmod(folder, 0o755)
        backend = stack.enter_context(nginx())
        one = synthetic.reviews(backend.port)
        proxies = []
        for port, kind, resources in ((15001, LED, one), (15002, KNOWN, one), (15003, MANY, [*one, *_many()])):
            named = folder / f"mesh-{port}"
            named.mkdir()
            write_resources(named / "mesh.yaml", resources)
            command = ["setpriv", f"--regid={GROUP}", "--clear-groups", *meshlib, "proxy", "--config", str(named)]
            command += ["--outbound", f"127.0.0.1:{port}", *(() if kind == KNOWN else ("--transparent",))]
            pid = stack.enter_context(running(command, ("127.0.0.1", port), cores()[0], folder / f"{port}.log"))
            proxies.append(Proxy(kind, pid, port))

        def lead(port: int) -> None:
            words = ["iptables", "apply", "--no-ipv6", "--flavour", "nft", "--proxy-group", str(GROUP)]
            subprocess.run([*meshlib, *words, "--outbound-port", str(port)], check=True, capture_output=True)

        led = [0]

        def once(proxy: Proxy, number: int) -> Load:
            base = ""
            if proxy.name != KNOWN:
                base = f"http://{MEANT}:9080"
                if led[0] != proxy.port:
                    lead(proxy.port)
                    led[0] = proxy.port
            return wrk(folder, proxy.port, FEW, CONNECTIONS, seconds, number, base=base)

        taken = take_turns(proxies, rounds, once)
    found: dict[str, Any] = {kind: [each.cpu for each in taken[kind]] for kind in (LED, KNOWN, MANY)}
    found["waited"] = statistics.median([each.waited for every in taken.values() for each in every])
    return found


if __name__ == "__main__":
    print(json.dumps(_inside("--quick" in sys.argv)))
