"""``meshlib explain --live``: what has happened to the last calls of a running process."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import click

from meshlib.cli.attached import attached, fail
from meshlib.cli.options import as_typed
from meshlib.cli.output import printable
from meshlib.policy.grpc_status import NAMES
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.admin.attach import Attached
    from meshlib.telemetry.recent import RecentAttempt, RecentCall

F = TypeVar("F", bound=Callable[..., object])

LAST = 10
ALL = 100_000
"""Calls: more than any process keeps."""
MOST_NAMES = 10
"""Hosts, and routes, that are named where a question has found nothing."""


def live_options(command: F) -> F:
    """--live, --last, --failed."""
    for option in (
        click.option("--failed", is_flag=True, help="With --live: only calls that failed, or had an attempt that did."),
        click.option(
            "--last", type=click.IntRange(1, 100_000), metavar="N", help=f"With --live: how many calls.  [default: {LAST}]"
        ),
        click.option(
            "--live", is_flag=True,
            help="Show what has happened to the last calls of a running process: give [PID|SOCKET] [HOST or ROUTE].",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def explain_live(words: Sequence[str], style: str, last: int | None, failed: bool) -> None:
    """``words``: what process (the only one), and of which host or route (all)."""
    from meshlib.admin.attach import is_target

    given = [as_typed(word) for word in words]
    target = given.pop(0) if given and is_target(given[0]) else None
    if len(given) > 1 and target is None:
        raise click.UsageError(
            f"{given[0]!r} is not a PID, a socket or an address: meshlib explain --live 4711 reviews"
        )
    if len(given) > 1:
        raise click.UsageError("--live takes a process, and one host or route behind it")
    at = attached(target)
    query = {"limit": str(last or LAST), **({"match": given[0]} if given else {}), **({"failed": ""} if failed else {})}
    try:
        calls: list[RecentCall] = at.json(f"/calls?{urlencode(query)}")["calls"]
    except MeshError as error:
        fail(error)
    if style == "json":
        click.echo(json.dumps({"process": str(at), "calls": calls}, indent=2))
        return
    if not calls:
        click.echo(printable(_none(at, given[0] if given else "", failed)), err=True)
    for call in reversed(calls):  # the newest last, where a terminal is read
        click.echo("\n".join(printable(line) for line in lines(call)))


def _none(at: Attached, match: str, failed: bool) -> str:
    """What to tell somebody whose question has found nothing: what there is."""
    try:
        kept: list[RecentCall] = at.json(f"/calls?{urlencode({'limit': str(ALL)})}")["calls"]
    except MeshError as error:
        fail(error)
    if not kept:
        return f"{at} has had no calls that it remembers"
    if failed:
        from meshlib.admin.calls import is_of

        matching = sum(not match or is_of(call, match) for call in kept)
        if matching:
            return (
                f"{at} has had no failed calls{f' of {match}' if match else ''} that it remembers: {matching} went well"
            )
    hosts = dict.fromkeys(call["host"] or call["authority"] for call in kept)
    routes = dict.fromkeys(_route(call) for call in kept if call["route"].startswith("VirtualService/"))
    known = f"; hosts that it remembers calls of: {_listed(list(hosts))}"
    if routes:
        known += f"; routes: {_listed(list(routes))}"
    return f"{at} has had no calls of {match} that it remembers{known}"


def _route(call: RecentCall) -> str:
    named = call.get("rule_name")  # an older process does not say it
    return f"{call['route']} ({named})" if named else call["route"]


def _listed(names: Sequence[str]) -> str:
    left = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {left} more" if left > 0 else "")


def lines(call: RecentCall) -> list[str]:
    """One call, for people. Times are local."""
    at = datetime.datetime.fromtimestamp(call["at"]).astimezone()
    grpc = call["grpc_status"]
    status = _grpc(grpc) if grpc is not None else str(call["status"] or "no response")
    what = f"{call['method']} {call['authority']}{call['path']}"
    served = "  served" if call["direction"] == "served" else ""
    flags = f" {call['flags']}" if call["flags"] else ""
    found = [f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {what}{served}  {status}{flags}  in {call['ms']:.1f} ms"]
    if served:
        found.append(
            f"  from {call['principal'] or 'an unauthenticated peer'}"
            + (f" -> {call['route']}" if call["route"] else "")
        )
    else:
        where = f"{call['host']}/{call['subset']}" if call["subset"] else call["host"]
        found.append(f"  {_route(call) or 'no VirtualService'} -> {where}  (config {call['config_version']})")
    if call["detail"]:
        found.append(f"  {call['detail']}")
    if call.get("trace_id"):  # an older process does not say it
        found.append(f"  trace {call['trace_id']}")
    found += [f"  attempt {number}: {_attempt(each)}" for number, each in enumerate(call["attempts"], 1)]
    return found


def _grpc(status: int) -> str:
    return NAMES[status] if 0 <= status < len(NAMES) else str(status)


def _attempt(attempt: RecentAttempt) -> str:
    at = "" if attempt["at"] is None else f"at +{attempt['at']:.1f} ms  "
    result = attempt["failure"] or str(attempt["status"])
    why = f": {attempt['detail']}" if attempt.get("detail") else ""  # an older process does not say it
    return f"{at}{attempt['endpoint']}: {result} after {attempt['ms']:.1f} ms{why}"
