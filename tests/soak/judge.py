"""The referee: pure functions from what was written down to what is wrong with it. An empty list is a clean bill.

**Crossed**: a response that carries another id than its call, or a request that was executed for another host than it was
sent to. Never excused.

**Lost**: a call without an ending, with two, that was answered though no server executed it, or that failed without an
excuse. A failure is excused only when

- the caller asked for it: it cancelled, dropped or timed out the call, or told the server to break it off, on a host whose
  policy does not retry that; and the ending is the one that was asked for; or
- the host's policy does not retry such a failure, the exception names an endpoint, and that very endpoint was killed or
  drained while the call was under way; or it closed an idle connection then, the request was not executed, and its method
  may not be sent twice (gRPC: or a moment after it was back, ``RECONNECTING``); or
- the response had begun, and its endpoint was killed or drained while the call was under way; or
- the host's ResiliencePolicy refused it (503, flag UO).

So a call to a host that retries everything must be answered, whatever dies, drains, reloads or changes its address: the
fleet sees to it that all but one of its endpoints are up. Exceptions that are not documented are never excused.

**Doubled**: a POST or gRPC call that was executed twice although its policy does not retry what was executed; others more
often than their policy can explain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from tests.soak.history import Call, Child, Disturbance, Execution, History
from tests.soak.promises import IDEMPOTENT, PROMISES

RECONNECTING = 3.0
"""Seconds after which gRPC core, which backs off for a second at most, has tried an endpoint again that is back."""
HTTP_TIMEOUTS = frozenset({"UpstreamTimeout", "ConnectTimedOut", "Overflow", "WriteTimedOut"})
HTTP_ERRORS = HTTP_TIMEOUTS | {"UpstreamReset", "ConnectionReset", "ConnectFailed", "NoHealthyUpstream"}
GRPC_ERRORS = frozenset({"UNAVAILABLE", "CANCELLED", "INTERNAL", "DEADLINE_EXCEEDED"})
BROKEN_BY_SERVER = frozenset({"refuse", "cut", "midbody", "UNAVAILABLE"})
"""What callers ask servers to do to them that ends a call, when nothing retries it."""
ENDINGS_OF = {"cancel": {"cancelled"}, "abandon": {"partial"}, "drop": {"partial"}}
"""What a caller may do to its own call, and the ending that it comes to unless the answer was quicker."""

MIB = 1 << 20
SHOWN = 5


class Disturbances:
    """What happened to each endpoint."""

    def __init__(self, disturbances: Iterable[Disturbance]) -> None:
        self._of: dict[int, list[Disturbance]] = defaultdict(list)
        for one in disturbances:
            self._of[one.port].append(one)

    def of(self, endpoint: str, since: float, until: float, kinds: Sequence[str], after: float = 0.0) -> bool:
        """Whether one of these kinds of things happened to ``host:port`` in that time."""
        port = endpoint.rpartition(":")[2]
        if not port.isdigit():
            return False
        return any(
            d.kind in kinds and d.since <= until and since <= d.until + after for d in self._of.get(int(port), ())
        )


def excuse(call: Call, executions: Sequence[Execution], disturbances: Disturbances) -> str:
    """Why a call that was not simply answered need not have been; "" when there is no excuse."""
    promise = PROMISES[call.host]
    if call.ending in ENDINGS_OF.get(call.asked, ()):
        return f"the caller's own {call.asked}"
    if call.ending == "answered":
        if call.asked == "503" and call.status == 503 and promise.retried != "all":
            return "asked for"
        if promise.refuses and call.status == 503 and not call.answer and "UO" in call.flags:
            return "refused by policy"
        return ""
    if call.ending != "failed" or call.error not in (GRPC_ERRORS if promise.protocol == "grpc" else HTTP_ERRORS):
        return ""
    if call.asked == "timeout" and (call.error in HTTP_TIMEOUTS or call.error == "DEADLINE_EXCEEDED"):
        return "the caller's own timeout"
    if call.asked == "fork" and call.error == "UNAVAILABLE" and "GRPC_ENABLE_FORK_SUPPORT" in call.text:
        return "gRPC core was forked"
    if call.asked in BROKEN_BY_SERVER and (promise.retried != "all" or call.asked == "midbody"):
        return "asked for"
    if promise.retried == "all" and call.stage != "body":
        return ""
    if promise.retried == "connect" and call.error in ("ConnectFailed", "ConnectTimedOut"):
        return ""
    after = RECONNECTING if promise.protocol == "grpc" else 0.0
    if disturbances.of(call.endpoint, call.begin, call.end, ("kill", "drain"), after):
        return "its endpoint was killed or drained"
    if (
        call.kind not in IDEMPOTENT
        and not executions
        and disturbances.of(call.endpoint, call.begin, call.end, ("idle-close",), 0.5)
    ):
        return "its endpoint closed the idle connection"
    return ""


def describe(call: Call) -> str:
    """A line for people."""
    what = f"{call.id} {call.kind} {call.host} in {call.runtime}"
    if call.asked:
        what += f" (asked: {call.asked})"
    if not call.ending:
        return f"{what}: no ending"
    found = f"{call.ending} {call.status or ''} {call.error} {call.flags} {call.stage} {call.endpoint} {call.text}"
    return f"{what}: {' '.join(found.split())} after {call.end - call.begin:.3f} s"


def crossed(history: History) -> list[str]:
    """Responses that belong to another call; requests at another host's door."""
    found = []
    for call in history.calls.values():
        if call.ending in ("answered", "partial") and call.answer not in ("", call.id):
            found.append(f"{describe(call)}: the response is that of {call.answer}")
        for execution in history.executions.get(call.id, ()):
            if call.host != "outside" and execution.host not in (call.host, f"{call.host}-shadow"):
                found.append(f"{describe(call)}: executed for the host {execution.host}")
    found.extend(
        f"{name} was executed, and nobody called it" for name in history.executions.keys() - history.calls.keys()
    )
    return found


def lost(history: History) -> list[str]:
    """Calls that did not come to their one proper ending."""
    found = []
    disturbances = Disturbances(history.disturbances)
    for call in history.calls.values():
        executions = [x for x in history.executions.get(call.id, ()) if not x.host.endswith("-shadow")]
        if call.again:
            found.append(f"{describe(call)}: and {call.again} more endings")
        if call.ending == "answered" and call.status == 200:
            if not call.answer:
                found.append(f"{describe(call)}: the response carries no id")
            elif not executions:
                found.append(f"{describe(call)}: answered, and no server has executed it")
        elif not excuse(call, executions, disturbances):
            found.append(describe(call))
    return found


def excused(history: History) -> dict[str, int]:
    """How many calls had which excuse."""
    found: dict[str, int] = defaultdict(int)
    disturbances = Disturbances(history.disturbances)
    for call in history.calls.values():
        if call.ending != "answered" or call.status != 200:
            executions = [x for x in history.executions.get(call.id, ()) if not x.host.endswith("-shadow")]
            found[excuse(call, executions, disturbances) or "none"] += 1
    return dict(found)


def doubled(history: History) -> list[str]:
    """Requests executed more often than their policy allows."""
    found = []
    for call in history.calls.values():
        executions = history.executions.get(call.id, ())
        if len(executions) < 2:
            continue
        shadows = sum(x.host.endswith("-shadow") for x in executions)
        times = len(executions) - shadows
        promise = PROMISES[call.host]
        most = promise.most if call.kind in IDEMPOTENT or promise.retried == "all" else 1
        if times > most:
            found.append(f"{describe(call)}: executed {times} times, by {[(x.port, x.attempt) for x in executions]}")
        if shadows > promise.mirrored:
            found.append(f"{describe(call)}: mirrored {shadows} times")
    return found


def leaks(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What there is more of than before. Fewer is no leak."""
    return [
        f"{name}: {before.get(name, 0)} before, {count} after"
        for name, count in sorted(after.items())
        if count > before.get(name, 0)
    ]


def left_behind(figures: Mapping[str, int]) -> list[str]:
    """Counts of things under way that are not zero although nothing is."""
    return [f"{name} is {count}" for name, count in sorted(figures.items()) if count]


def stuck(children: Iterable[Child]) -> list[str]:
    """Forked children that did not end well."""
    return [
        f"child {child.pid}: {'had to be killed' if child.code is None else f'exit code {child.code}'} "
        f"after {child.seconds:.1f} s"
        for child in children
        if child.code != 0
    ]


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Bytes of memory a minute over the last half of the samples (seconds, bytes), by least squares."""
    if len(samples) < 4:
        return 0.0
    half = samples[0][0] + (samples[-1][0] - samples[0][0]) / 2
    last = [(at, value) for at, value in samples if at >= half]
    middle = sum(at for at, _ in last) / len(last)
    mean = sum(value for _, value in last) / len(last)
    spread = sum((at - middle) ** 2 for at, _ in last)
    return 60.0 * sum((at - middle) * (value - mean) for at, value in last) / spread if spread else 0.0


def rising(samples: Sequence[tuple[float, float]], most: float = MIB) -> list[str]:
    """Memory that grows by more than ``most`` bytes a minute over the last half."""
    found = slope(samples)
    return [f"memory grows by {found / MIB:.2f} MB a minute"] if found > most else []


def gaps(samples: Sequence[tuple[float, float]], longest: float) -> list[str]:
    """Stretches without a sample: the whole process stood still."""
    return [
        f"nothing was heard of the callers for {later - at:.0f} s"
        for (at, _), (later, _) in pairwise(samples)
        if later - at > longest
    ]
