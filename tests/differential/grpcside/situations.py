"""Situations of more than one call: a full service, endpoints that fail until they are ejected, shares of weights."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.differential.grpcside.ask import Ask, Heard, perform
from tests.differential.grpcside.cases import NO_RETRY, Config, rule
from tests.differential.grpcside.scene import Scene, Service
from tests.differential.grpcside.servers import Ledger
from tests.support.grpc_echo import eventually
from tests.support.resources import to

Channels = Callable[[str], Any]

# -- a full service ----------------------------------------------------------------------------------------------------------

FULL = {"connectionPool": {"http": {"http2MaxRequests": 1}}}


def overflow(channels: Channels, ledger: Ledger, side: str) -> tuple[Heard, Heard]:
    """What the second of two calls hears while the first is held, and what the first hears."""
    held: list[Heard] = []
    before = len(ledger.at("a"))
    ledger.release.clear()
    thread = threading.Thread(target=lambda: held.append(perform(channels("full"), Ask("hold"), ledger, side)))
    thread.start()
    assert eventually(lambda: len(ledger.at("a")) > before)
    second = perform(channels("full"), Ask(), ledger, side)
    ledger.release.set()
    thread.join(60)
    ledger.release.clear()
    return second, held[0]


# -- ejection ----------------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Config] = {
    "5xx": {"consecutive5xxErrors": 2},
    "gateway": {"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 2},
    "split": {"consecutive5xxErrors": 2, "splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2},
    "local": {"consecutive5xxErrors": 0, "splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2},
}
CALLS = 8
EJECTED = 2
"""So many of ``CALLS`` calls an endpoint gets that is ejected as soon as it has failed twice."""


@dataclass(frozen=True)
class Failing:
    """An endpoint that fails in one way, beside one that does not."""

    name: str
    host: str
    settings: str
    step: str
    server: str
    kind: str = "Unary"
    timeout: str = ""

    @property
    def services(self) -> dict[str, Service]:
        detection = {
            "interval": "600s",
            "baseEjectionTime": "600s",
            "maxEjectionPercent": 100,
            **SETTINGS[self.settings],
        }
        policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}, "outlierDetection": detection}
        return {self.host: Service(("a", self.server), policy)}

    @property
    def rules(self) -> tuple[Config, ...]:
        return (rule(self.host, **({"timeout": self.timeout} if self.timeout else {})),)


def failing() -> list[Failing]:
    """Every way to fail under every setting."""
    made: list[Failing] = []

    def add(step: str, server: str, kind: str = "Unary", timeout: str = "") -> None:
        for settings in SETTINGS:
            name = f"{step} of {kind}, {settings}"
            made.append(Failing(name, f"f{len(made)}", settings, step, server, kind, timeout))

    for number in range(1, 17):
        add(f"s{number}", "b")
    for step in ("h14", "h13"):
        add(step, "b")
    add("m14", "b", "Expand")
    add("s14", "b", "Chat")
    for step in (
        "rst2",
        "rst7",
        "rst8",
        "hrst2",
        "mrst2",
        "close",
        "hclose",
        "http500",
        "http503",
        "http429",
        "grpc503",
        "nostatus",
    ):
        add(step, "raw")
    add("2", "raw", timeout="30ms")
    add("any", "closed")
    return made


SPARE = Failing("spare", "spare", "5xx", "s8", "b")
"""One that a test may spoil."""


BUSY = 0.03
"""Seconds of a call that takes one millisecond: then the machine is too busy to see which attempts were in time."""


class Load(NamedTuple):
    """``got``: how many of ``CALLS`` calls in a row the failing endpoint got; for one that refuses or closes connections:
    how many failed. ``slowest`` of them, in seconds."""

    got: int
    slowest: float


def load(case: Failing, channels: Channels, ledger: Ledger, side: str) -> Load:
    """Make them."""
    metadata = ((f"x-script-{case.server}", case.step), ("x-script", "ok"))
    heard, times = [], [time.monotonic()]
    for _ in range(CALLS):
        heard.append(perform(channels(case.host), Ask("ok", case.kind, metadata[:1]), ledger, side))
        times.append(time.monotonic())
    if case.server == "closed" or case.step.endswith("close"):
        # gRPC core may put a call on a connection that it has seen closed, while a write to it is still under way: it fails
        # as the others do, and no server ever hears of it (3 of 100 endpoints on a core that others use)
        got = sum(h.code != "OK" for h in heard)
    else:
        got = sum(h.places == (case.server,) for h in heard)
    return Load(got, max(after - before for before, after in itertools.pairwise(times)))


# -- one of two endpoints refuses ----------------------------------------------------------------------------------------------


def detours(channels: Channels, ledger: Ledger, side: str) -> tuple[Counter[str], set[str]]:
    """What 40 callers hear, and at which attempts they reached the endpoint that is there, with Istio's default retries."""
    heard = [perform(channels("detour"), Ask(), ledger, side) for _ in range(40)]
    return Counter(h.code for h in heard), {str(a.values("x-envoy-attempt-count")) for h in heard for a in h.attempts}


# -- shares ------------------------------------------------------------------------------------------------------------------

WEIGHTS = {"a": 75, "b": 25}
DRAWS = 600


def shares(channels: Channels, ledger: Ledger, side: str) -> Counter[str]:
    """Which server took how many calls."""
    return Counter(perform(channels("split"), Ask(), ledger, side).places[0] for _ in range(DRAWS))


def scene() -> Scene:
    """All that this module is about."""
    cases = [*failing(), SPARE]
    hosts: dict[str, Any] = {case.host: case.rules for case in cases}
    hosts["detour"] = ({"route": [to("half")]},)
    hosts["full"] = (rule("full"),)
    hosts["split"] = ({"route": [to(name, weight=weight) for name, weight in WEIGHTS.items()], "retries": NO_RETRY},)
    services = {name: service for case in cases for name, service in case.services.items()}
    services["full"] = Service(("a",), FULL)
    return Scene(hosts, services)
