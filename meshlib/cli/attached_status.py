"""``meshlib status --attach``: the state of a running process, for people and as JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import click

from meshlib.cli.attached import attached, fail
from meshlib.cli.output import printable, table
from meshlib.problems import MeshError


def show_attached(target: str, style: str) -> None:
    """Of the process that ``target`` names."""
    at = attached(target)
    try:
        status = at.json("/status")
    except MeshError as error:
        fail(error)
    if style == "json":
        click.echo(json.dumps(status, indent=2))
        return
    click.echo(printable(f"{at}: {status['workload']}.{status['namespace']}"))
    for line in _lines(status):
        click.echo(printable(line))
    table(
        "clusters in use",
        ["cluster", "requests", "failed", "retries", "active", "connections", "endpoints"],
        [[*map(printable, row)] for row in _clusters(status)],
    )
    for problem in status["problems"]:
        where = f"{problem['file']}:{problem['line']}" if problem["line"] else problem["file"]
        click.echo(printable(f"{problem['severity']}: {where}: {problem['message']}"))


def _lines(status: dict[str, Any]) -> Iterator[str]:
    if status["closed"]:
        yield "the mesh is closed"
        return
    source = status["source"]
    reloads = f", {source['reloads']} reloads" if source["reloads"] else ""
    failed = f", {source['failed_reloads']} failed" if source["failed_reloads"] else ""
    of = ", ".join(map(str, source["paths"])) or source["kind"]
    since = f"configuration {status['version']}, for {_span(status['in_force_for'])}"
    yield f"{since}: {status['resources']} resources of {of}{reloads}{failed}"
    for kept in source["last_good_kept"]:
        yield f"  the last good version is in use of {kept}"
    identity = status.get("identity")
    if identity:
        until = "" if identity["not_after"] is None else f", until {_time(identity['not_after'])}"
        ready = "" if identity["ready"] else "  NOT READY"
        yield f"certificate {identity['identity'] or 'none yet'}{until}{ready}"
        if identity["problem"]:
            yield f"  {identity['problem']}"
    for files in status["certificates"]:
        yield f"certificate files {', '.join(files['files'])}{': ' + files['problem'] if files['problem'] else ''}"
    for guard in status["resilience"]:
        yield f"{guard['resource']} of {guard['host']}: {', '.join(_guard(guard))}"
    dropped = ", ".join(f"{kind} {count}" for kind, count in status["telemetry"]["dropped"].items() if count)
    if dropped:
        yield f"telemetry dropped: {dropped}"
    failures = {name: count for name, count in status["failures"].items() if count and name != "calls_by_reason"}
    reasons = ", ".join(f"{why}: {count}" for why, count in status["failures"]["calls_by_reason"].items())
    if failures:
        told = ", ".join(
            f"{name} {count}" + (f" ({reasons})" if name == "calls" else "") for name, count in failures.items()
        )
        yield f"failures: {told}"


def _guard(guard: dict[str, Any]) -> Iterator[str]:
    yield f"{guard['active']} active"
    if "circuit_breaker" in guard:
        yield f"breaker {guard['circuit_breaker']}"
    if "bulkhead" in guard:
        yield f"bulkhead {guard['bulkhead']['in_use']} in use, {guard['bulkhead']['waiting']} waiting"
    if "retry_budget" in guard:
        yield f"{guard['retry_budget']['retries']:g} of {guard['retry_budget']['allowed']:g} retries"
    if "concurrency_limit" in guard:
        yield f"concurrency limit {guard['concurrency_limit']}"


def _clusters(status: dict[str, Any]) -> Iterator[list[str]]:
    for cluster in status.get("clusters", ()):
        yield [
            cluster["name"],
            str(cluster["requests"]),
            str(cluster["failures"]),
            str(cluster["retries"]),
            str(cluster["active"]),
            _connections(status["pools"].get(cluster["name"])),
            ", ".join(map(_endpoint, cluster["endpoints"])) or "none",
        ]


def _connections(pool: dict[str, int] | None) -> str:
    return "-" if pool is None else f"{pool['busy']} busy, {pool['idle']} idle"


def _endpoint(endpoint: dict[str, Any]) -> str:
    if endpoint.get("ejected"):
        left = endpoint["ejected_for"]
        return f"{endpoint['address']} (ejected{'' if left is None else f', {left:.0f} s left'})"
    return f"{endpoint['address']}{'' if endpoint.get('usable', True) else ' (not ready)'}"


def _span(seconds: float) -> str:
    """``3d 4h``, ``12m 5s``: its two largest parts."""
    left = int(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
