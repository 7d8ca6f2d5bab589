"""What goes wrong: on purpose by a rule, now and then, slowly, for good."""

from __future__ import annotations

from collections import Counter

from meshlib.demo.report import counts
from meshlib.demo.shop.play.customer import WIDTH
from meshlib.demo.shop.play.scenario import Stage, differs

CHAOS = (("x-chaos", "sold-out"),)
FAULTS = 10
ROUTE_TIMEOUT = 1.5
"""``timeout`` of rule products."""
LATE = 1.0
"""Seconds that a call may end after its time limit on a busy machine."""
OWN_TIMEOUT = 0.2
FEWEST = 50
"""Calls below which a failing half, or a dead replica, might not even be met."""
MOST_RETRIED = 3 * WIDTH
"""Calls under way when a replica dies, those that begin before the first of them tells, and some for a busy machine."""


def play_fault(stage: Stage) -> None:
    """An injected fault is a gRPC status; no server sees the call."""
    stage.begin("injected fault", "chaos", "GetProduct: abort RESOURCE_EXHAUSTED if x-chaos is sold-out")
    answers = [stage.customer.product(metadata=CHAOS) for _ in range(FAULTS)]
    seen = Counter(answer.code for answer in answers)
    why = differs("statuses", dict(seen), {"RESOURCE_EXHAUSTED": FAULTS})
    why += differs("flags", {answer.flags for answer in answers}, {"FI"})
    why += differs("attempts", sum(answer.attempts for answer in answers), 0)
    why += [f"details: {a.details!r}" for a in answers if not a.details.startswith("fault filter abort")][:1]
    text = (
        f"{FAULTS} calls: {counts(seen)}, flag FI, details {answers[0].details.partition(' (')[0]!r}, no server asked"
    )
    stage.saw("GetProduct", "RESOURCE_EXHAUSTED", text if not why else f"{FAULTS} calls: {counts(seen)}", why)

    answer = stage.customer.listed(metadata=CHAOS)
    text = f"{answer.code}, {len(answer.messages)} products"
    stage.saw("ListProducts", "OK: the rule is about one method", text, differs("status", answer.code, "OK"))


def play_retries(stage: Stage) -> None:
    """Every other answer of catalog v1 is UNAVAILABLE, and nobody notices."""
    stage.begin("retries", "products", "up to 4 retries on unavailable; catalog v1 fails every other call")
    calls = max(stage.calls, FEWEST)
    stage.shop.drill("every-other", "v1")
    try:
        # one by one: in parallel, all five tries of a call may fall on the failing half
        answers = list(stage.customer.products(calls, width=1))
    finally:
        stage.shop.drill("none", "v1")
    seen = Counter(answer.code for answer in answers)
    retried = sum(answer.attempts > 1 for answer in answers)
    lost = calls - seen["OK"]
    why = [f"{lost} calls were lost: {counts(seen)}"] if lost else []
    if not retried:
        why.append("no call was retried, so nothing was shown")
    text = f"{calls} calls, {lost} lost; {retried} retried"
    stage.saw("catalog v1 fails every other call", "no call is lost", text, why)


def play_timeouts(stage: Stage) -> None:
    """The route's time limit is the mesh's answer, the caller's own deadline the caller's."""
    stage.begin("time limits", "products", f"GetProduct: timeout {ROUTE_TIMEOUT:g} s; catalog takes 3 s")
    stage.shop.drill("slow", "v1", "v2")
    try:
        answer = stage.customer.product()
        why = differs("status", answer.code, "UNAVAILABLE") + differs("flags", answer.flags, "UT")
        why += _took(answer.seconds, ROUTE_TIMEOUT)
        if not answer.details.startswith("upstream request timeout"):
            why.append(f"details: {answer.details!r}")
        text = f"{answer.code} {answer.details.partition(' (')[0]!r}, flag {answer.flags}, after {_ms(answer.seconds)}"
        stage.saw("the route's", f"UNAVAILABLE after {_ms(ROUTE_TIMEOUT)}", text, why)

        answer = stage.customer.product(timeout=OWN_TIMEOUT)
        why = differs("status", answer.code, "DEADLINE_EXCEEDED") + _took(answer.seconds, OWN_TIMEOUT)
        text = f"{answer.code} after {_ms(answer.seconds)}"
        stage.saw("the caller's own", f"DEADLINE_EXCEEDED after {_ms(OWN_TIMEOUT)}", text, why)
    finally:
        stage.shop.drill("none", "v1", "v2")


def play_killed(stage: Stage) -> None:
    """A replica of catalog v1 dies in the middle of the calls. Its work goes to the other, soon without asking it first."""
    stage.begin("a killed replica", "products", "catalog v1 on 2 replicas; one is killed while calls are under way")
    calls = max(stage.calls, FEWEST)
    victim = stage.shop.catalogs("v1")[0]
    seen, served = Counter[str](), Counter[str]()
    retried = 0
    for at, answer in enumerate(stage.customer.products(calls)):
        seen[answer.code] += 1
        retried += answer.attempts > 1
        if answer.code == "OK":
            served[answer.message.served.pod] += 1
        if at == calls // 4:
            stage.shop.kill(victim)
    lost = calls - seen["OK"]
    why = [f"{lost} calls were lost: {counts(seen)}"] if lost else []
    if not served[victim.pod]:
        why.append(f"{victim.pod} got no call before it was killed, so nothing was shown")
    if retried > MOST_RETRIED:
        why.append(f"{retried} calls were retried, expected at most {MOST_RETRIED}: the dead one is known to be gone")
    text = f"{calls} calls, {lost} lost; {retried} retried elsewhere"
    stage.saw(f"{victim.pod} is killed", "no call is lost", text, why)


def _took(seconds: float, limit: float) -> list[str]:
    return [] if limit * 0.9 <= seconds <= limit + LATE else [f"it took {_ms(seconds)}, expected {_ms(limit)}"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
