"""What a run was measured on: a figure without its machine is none."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from meshlib.bench.processes import envoy_binary, nginx_binary

PACKAGES = ("httpx", "httpx2", "aiohttp", "grpcio", "fastapi", "flask", "uvicorn", "gunicorn", "uvloop", "httptools")
BUSY_LOAD = 0.25
"""Runnable threads of others for each core, from which on a machine is called busy."""
_CGROUP = Path("/sys/fs/cgroup")

Facts = dict[str, str | int | float]


def facts() -> Facts:
    """By name, for reports: processor, cores, limits, load, versions."""
    found: Facts = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "load (1 min)": round(os.getloadavg()[0], 2),
        "memory, MB": _memory(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    limit = cgroup_cores()
    if limit is not None:
        found["cgroup limit, cores"] = limit
    governor = _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    if governor:
        found["governor"] = governor
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for name, binary, option in (("envoy", envoy_binary(), "--version"), ("nginx", nginx_binary(), "-v")):
        if binary is not None:
            found[name] = _version(binary, option)
    return found


def warnings(found: Facts) -> list[str]:
    """What makes figures of this machine less sure, in sentences."""
    made = []
    cores, load = int(found["cores"]), float(found["load (1 min)"])
    if cores == 1:
        made.append(
            "one core only: client, proxies and backend take turns on it, so rates and latencies add up what runs beside each "
            "other elsewhere; go by CPU"
        )
    limit = float(found.get("cgroup limit, cores", cores))
    if limit < cores:
        made.append(
            f"a cgroup limits this process and its children to {limit:g} cores of {cores}: where they want more they are "
            "stopped for a while, which shows in p99 and in rates; go by CPU"
        )
    if load > BUSY_LOAD * cores:
        made.append(
            f"the machine was busy before the run began (load {load:g} on {cores} cores): figures in ms and requests/s are of "
            "this hour; ratios within the run are surer, as all took turns"
        )
    return made


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cgroup_cores(root: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The tightest limit of CPU time of this process's cgroup and those above, in cores; None: there is none."""
    limits = []
    for line in _read(own).splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # the first version has a tree for each controller, or for some of them together
        tree = next((each for each in (controllers, "cpu") if controllers and (root / each).is_dir()), "")
        folder = root / tree / name.strip("/")
        for each in (folder, *folder.parents):
            if not each.is_relative_to(root):
                break
            quota, _, period = _read(each / "cpu.max").partition(" ")
            if not quota:  # the first version of cgroups
                quota, period = _read(each / "cpu.cfs_quota_us"), _read(each / "cpu.cfs_period_us")
            with contextlib.suppress(ValueError, ZeroDivisionError):
                if float(quota) > 0:
                    limits.append(float(quota) / float(period))
    return round(min(limits), 2) if limits else None


def _processor() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000


def _version(binary: str, option: str) -> str:
    try:
        said = subprocess.run([binary, option], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not say its version: {error}"
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[-1].rpartition("version: ")[2].strip()[:80] if lines else "unknown"


def _read(file: Path) -> str:
    """ "" where it is not there."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def version() -> str:
    """Of meshlib."""
    try:
        return importlib.metadata.version("sidecarless")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Of the clone that meshlib was imported from, with ``+`` where it has changes; "" for an installed one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip()
