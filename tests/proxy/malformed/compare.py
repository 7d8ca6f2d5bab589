"""What a proxy makes of each case, held against Envoy.

``python -m tests.proxy.malformed.compare HOST:PORT --upstreams 18001`` for a proxy that leads shop01 to port 18001 of
loopback, shop02 to 18002, and so on.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

from tests.proxy.malformed.answers import as_recorded, digest, recorded
from tests.proxy.malformed.asking import Result, Slot, ask_all, slots
from tests.proxy.malformed.case import Case, Side
from tests.proxy.malformed.corpus import all_cases
from tests.proxy.malformed.upstream import Message

SHORT = 0.4
"""Seconds that a case is watched for which Envoy leaves its client waiting, too."""


REFUSALS = (400, 403, 405, 408, 413, 414, 417, 426, 431, 501)
"""Statuses with which Envoy refuses what it has read, and closes. (It also closes after others, when it has answered before a
body was over: how fast that comes is not the proxy's doing.)"""


UNKNOWN_HOST = 502
"""A response of the proxy's own, given to the head of a request."""


class Verdict(Enum):
    SAME = "same"
    STRICTER = "stricter"
    OTHER = "other wording"
    LAXER = "LAXER"
    HANG = "HANG"


class Finding(NamedTuple):
    case: Case
    verdict: Verdict
    why: str
    envoys: Result
    ours: Result


def verdict(envoys: Result, ours: Result) -> tuple[Verdict, str]:
    """How what came of a case compares with what came of it at Envoy, and why."""
    theirs, made = Counter(map(_comparable, envoys.upstream)), Counter(map(_comparable, ours.upstream))
    more = made - theirs
    if more and envoys.statuses[-1:] == (UNKNOWN_HOST,) and ours.statuses[: len(envoys.statuses)] == envoys.statuses:
        return Verdict.OTHER, "answers when a body is over and goes on, where Envoy answers before and closes"
    if more:
        return Verdict.LAXER, _difference(next(iter(more)), [*(theirs - made)])
    if ours.garbage and ours.garbage != envoys.garbage:
        return Verdict.LAXER, f"sends what is no request: {ours.garbage[0]!r}"
    if ours.in_step and not envoys.in_step and envoys.statuses[-1:] != () and envoys.statuses[-1] in REFUSALS:
        return Verdict.LAXER, "goes on where Envoy closes the connection"
    if ours.end != "closed" and envoys.end == "closed":
        return Verdict.HANG, f"{ours.statuses} and the connection stays open"
    if made != theirs:
        return Verdict.STRICTER, f"{ours.statuses} where Envoy forwards"
    if envoys.in_step and not ours.in_step:
        return Verdict.STRICTER, f"{ours.statuses} and closes where Envoy goes on"
    if ours.statuses == envoys.statuses:
        return Verdict.SAME, ""
    if not ours.statuses or not envoys.statuses:
        what = ours.statuses or envoys.statuses
        if ours.end == envoys.end == "closed" and what[-1] >= 400:
            return Verdict.SAME, ""  # closed: whether the words are read before is the network's matter
        return Verdict.STRICTER if ours.end == "closed" else Verdict.OTHER, f"{ours.statuses} where Envoy waits"
    return Verdict.OTHER, f"{ours.statuses}, Envoy {envoys.statuses}"


OF_THE_CONNECTION = (b"http2-settings", b"trailer", b"expect")
"""Headers that end with the client's connection (RFC 9110, 9113), or say what does not come (trailers are dropped), and that
Envoy passes on nevertheless."""


def _comparable(message: Message) -> Message:
    """Headers without what says nothing: the order of different names, whether a list is written in one line or in several
    (Envoy joins those that it knows; cookies are no list), of Connection all but the upgrade, of TE all but trailers, and
    ``OF_THE_CONNECTION``."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in message.headers:
        values.setdefault(name, []).append(value)
    headers: list[tuple[bytes, bytes]] = []
    for name in sorted(values):
        joined = b",".join(values[name])
        if name in OF_THE_CONNECTION:
            continue
        if name == b"te":  # but for trailers it is for one connection; beside an upgrade Envoy passes all of it on
            if b"trailers" in [token.strip() for token in joined.split(b",")]:
                headers.append((name, b"trailers"))
            continue
        if name == b"cookie":
            headers += [(name, value) for value in values[name]]
        elif name == b"connection" and b"upgrade" in joined.lower():
            headers.append((name, b"upgrade"))
        else:
            headers.append((name, joined))
    return message._replace(headers=tuple(headers))


def _difference(ours: Message, theirs: list[Message]) -> str:
    if not theirs:
        return f"forwards what Envoy does not: {ours.method!r} {ours.target!r}"
    closest = max(theirs, key=lambda each: sum(a == b for a, b in zip(each, ours, strict=True)))
    return "forwards " + "; ".join(
        f"{name}: {a!r:.300} for {b!r:.300}"
        for name, a, b in zip(Message._fields, ours, closest, strict=True)
        if a != b
    )


async def compared(
    proxy: tuple[str, int], made: list[Slot], cases: Iterable[Case], limit: float, side: Side = "outbound"
) -> list[Finding]:
    """A finding for each of the cases whose answer was recorded. ``limit``: seconds until a case counts as a hang."""
    _, answers = recorded(side)
    known = [case for case in cases if case.id in answers and answers[case.id][0] == digest(case)]

    def patience(case: Case) -> float:
        return SHORT if answers[case.id][1].end != "closed" else limit

    results = await ask_all(proxy, made, known, patience)
    return [
        Finding(case, *verdict(answers[case.id][1], ours), answers[case.id][1], ours)
        for case in known
        for ours in (as_recorded(results[case.id]),)
    ]


def table(findings: list[Finding]) -> str:
    """How many of each verdict, by family."""
    counts: dict[str, Counter[Verdict]] = {}
    for each in findings:
        counts.setdefault(each.case.family, Counter())[each.verdict] += 1
    kinds = list(Verdict)
    lines = [f"{'family':<28}" + "".join(f"{kind.value:>15}" for kind in kinds)]
    for name, count in [*counts.items(), ("all", Counter(each.verdict for each in findings))]:
        lines.append(f"{name:<28}" + "".join(f"{count[kind] or '.':>15}" for kind in kinds))
    return "\n".join(lines)


def resources(made: list[Slot]) -> list[dict[str, Any]]:
    """A mesh that leads each slot's host to its upstream, and nobody anywhere else."""
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"},
    }
    entries = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": slot.host.decode(), "namespace": "default"},
            "spec": {
                "hosts": [slot.host.decode(), *(f"{slot.host.decode()}.default{tail}" for tail in TAILS)],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "location": "MESH_INTERNAL",
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": slot.upstream.port}}],
            },
        }
        for slot in made
    ]
    return [config, *entries]


TAILS = ("", ".svc", ".svc.cluster.local")


async def _run(proxy: tuple[str, int], first: int, count: int, limit: float) -> list[Finding]:
    async with slots(count, first) as made:
        return await compared(proxy, made, all_cases(), limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proxy", help="HOST:PORT")
    parser.add_argument("--upstreams", type=int, required=True, help="port of shop01's upstream")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--limit", type=float, default=2.0, help="seconds until a case counts as a hang")
    given = parser.parse_args()
    host, _, port = given.proxy.rpartition(":")
    findings = asyncio.run(_run((host, int(port)), given.upstreams, given.slots, given.limit))
    for each in findings:
        if each.verdict in (Verdict.LAXER, Verdict.HANG):
            print(f"{each.verdict.value} {each.case.id}: {each.why}")
    print(table(findings))
    sys.exit(any(each.verdict in (Verdict.LAXER, Verdict.HANG) for each in findings))


if __name__ == "__main__":
    main()
