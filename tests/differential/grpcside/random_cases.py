"""Random rules and random retry policies for gRPC, from a seed."""

from __future__ import annotations

import random
from typing import Any

from tests.differential.grpcside.ask import KINDS, Ask
from tests.differential.grpcside.cases import ALWAYS, NO_RETRY, Case, Config
from tests.differential.grpcside.servers import Pairs
from tests.support.grpc_echo import SERVICE
from tests.support.resources import to

SEED = 23
RULES, RULE_ASKS = 50, 10
POLICIES, POLICY_ASKS = 25, 12
SERVICES = (SERVICE, "meshlib.test.Other", "pkg.v1.Echo")
NAMES = ("x-k", "x-l", "k-bin", "end-user")
VALUES = ("one", "ones", "two", "", "ONE", "one two", "a,b")
STATUSES = (400, 401, 403, 404, 418, 429, 500, 502, 503, 504)
GRPC = (
    "CANCELLED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "UNAVAILABLE",
    "UNAUTHENTICATED",
)


class Rules:
    """Makes one case."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(f"grpc/{SEED}/{number}")
        self.number = number

    def often(self, share: float) -> bool:
        return self.rng.random() < share

    def case(self) -> Case:
        rules = tuple(self.rule() for _ in range(self.rng.randint(1, 4)))
        return Case(f"random rules {self.number}", rules, tuple(self.ask() for _ in range(RULE_ASKS)))

    def rule(self) -> Config:
        made: Config = {}
        if self.often(0.85):
            made["match"] = [self.block() for _ in range(self.rng.randint(1, 2))]
        kind = self.rng.random()
        if kind < 0.1:
            made["directResponse"] = {"status": self.rng.choice(STATUSES), "body": {"string": "here: ü"}}
        elif kind < 0.15:
            made["redirect"] = {"authority": "r.test", "uri": "/there"}
        else:
            self.forward(made)
        if self.often(0.4):
            made["headers"] = self.operations()
        return made

    def forward(self, made: Config) -> None:
        targets = [to(self.rng.choice("ab"))]
        if self.often(0.15):
            targets = [to("a", weight=100), to("b", weight=0)]
        for target in targets:
            if self.often(0.3):
                target["headers"] = self.operations()
        made |= {"route": targets, "retries": NO_RETRY}
        if self.often(0.2):
            made["rewrite"] = self.rewrite(made.get("match", []))
        if self.often(0.2):
            what: Config = (
                {"httpStatus": self.rng.choice(STATUSES)} if self.often(0.5) else {"grpcStatus": self.rng.choice(GRPC)}
            )
            made["fault"] = {"abort": {**what, "percentage": ALWAYS if self.often(0.7) else {"value": 0}}}
        if self.often(0.2):
            made["timeout"] = self.rng.choice(("3s", "4s"))

    def rewrite(self, blocks: list[Config]) -> Config:
        kind = self.rng.random()
        if kind < 0.4:
            return {"authority": self.rng.choice(("other.test", "other.test:8080"))}
        if kind < 0.7 and blocks and all("prefix" in block.get("uri", {}) for block in blocks):
            return {"uri": "/new.Service/"}
        return {"uriRegexRewrite": {"match": r"^/([a-z]+)\.(.*)$", "rewrite": r"/v2.\1.\2"}}

    def uri(self) -> Config:
        service, kind = self.rng.choice(SERVICES), self.rng.choice(KINDS)
        how = self.rng.choice(("exact", "prefix", "prefix", "regex"))
        if how == "exact":
            return {"exact": f"/{service}/{kind}"}
        if how == "prefix":
            return {"prefix": self.rng.choice((f"/{service}/", f"/{service}/{kind[:2]}", "/meshlib."))}
        return {"regex": self.rng.choice((r"/.*\.Echo/.*", r"/meshlib\.test\.(Echo|Other)/(Unary|Chat)", "/.*at"))}

    def text(self) -> Config:
        how = self.rng.choice(("exact", "prefix", "regex", "present"))
        if how == "present":
            return {}
        if how == "regex":
            return {"regex": self.rng.choice(("one.*", ".*", "[a-z]+", "AQ.*", "two|one"))}
        return {how: self.rng.choice([value for value in VALUES if value] + ["AQ", "AQL/"])}

    def block(self) -> Config:
        made: Config = {}
        if self.often(0.6):
            made["uri"] = self.uri()
            if self.often(0.15):
                made["ignoreUriCase"] = True
        if self.often(0.5):
            made["headers"] = {self.rng.choice(NAMES): self.text() for _ in range(self.rng.randint(1, 2))}
        if self.often(0.2):
            made["withoutHeaders"] = {self.rng.choice(NAMES): self.text()}
        if self.often(0.1):
            made["method"] = {"exact": self.rng.choice(("POST", "POST", "GET"))}
        if self.often(0.1):
            made["authority"] = {"prefix": self.rng.choice(("c", "r", "other"))}
        return made or {"uri": {"prefix": "/"}}

    def operations(self) -> Config:
        made: Config = {}
        for direction in ("request", "response"):
            if self.often(0.6):
                names = self.rng.sample(("x-k", "x-l", "x-new", "x-back", "x-head", "answered-by"), 3)
                made[direction] = {"set": {names[0]: "set"}, "add": {names[1]: "added"}, "remove": [names[2]]}
        return made

    def ask(self) -> Ask:
        metadata: list[tuple[str, Any]] = []
        for _ in range(self.rng.choice((0, 0, 1, 2, 3))):
            name = self.rng.choice(NAMES)
            metadata.append(
                (
                    name,
                    self.rng.choice((b"\x01", b"\x01\x02\xff", b""))
                    if name.endswith("-bin")
                    else self.rng.choice(VALUES),
                )
            )
        script = self.rng.choice(("ok", "ok", "ok", "s14", "s5", "h9"))
        return Ask(script, self.rng.choice(KINDS), tuple(metadata), service=self.rng.choice(SERVICES))


def random_rules() -> list[Case]:
    return [Rules(number).case() for number in range(RULES)]


TOKENS = (
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", "5xx", "gateway-error", "reset",
    "connect-failure", "refused-stream", "retriable-4xx", "503", "429",
)  # fmt: skip
SAID = ("ok", "s1", "s4", "s8", "s13", "s14", "s14", "s5", "h14", "m14")
BROKEN = ("ok", "s14", "s13", "rst7", "rst8", "close", "http503", "http429", "http500", "grpc503", "goaway", "mrst2")


def random_retries() -> list[Case]:
    """Random policies against random sequences of what a gRPC server says."""
    return _retries("a", SAID)


def random_breaks() -> list[Case]:
    """The same against a server that breaks in many ways."""
    return _retries("raw", BROKEN)


def _retries(host: str, steps: tuple[str, ...]) -> list[Case]:
    rng = random.Random(f"grpc retries/{host}/{SEED}")
    made = []
    for number in range(POLICIES):
        retries: Config = {"attempts": rng.choice((1, 1, 2, 3)), "backoff": "1ms"}
        if rng.random() < 0.85:
            retries["retryOn"] = ",".join(rng.sample(TOKENS, rng.randint(1, 4)))
        asks = []
        for _ in range(POLICY_ASKS):
            script = ",".join(rng.choice(steps) for _ in range(4))
            metadata: Pairs = ()
            if rng.random() < 0.15:
                metadata += (("x-envoy-retry-grpc-on", rng.choice(("internal", "unavailable,cancelled", "nonsense"))),)
            if rng.random() < 0.1:
                metadata += (("x-envoy-max-retries", rng.choice(("0", "1", "2"))),)
            asks.append(Ask(script, rng.choice(KINDS), metadata))
        made.append(Case(f"random retries {number}", ({"route": [to(host)], "retries": retries},), tuple(asks)))
    return made
