"""Random AuthorizationPolicies with every field and its negation, and requests of random callers aimed at them: matches, near
misses, and everything around. All from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from tests.differential.authorization.cases import (
    LABELS,
    NAMESPACE,
    NORMALIZATIONS,
    ROOT,
    Caller,
    Case,
    Config,
    Request,
    policy,
)

PRINCIPALS = [
    "cluster.local/ns/foo/sa/a",
    "cluster.local/ns/foo/sa/b",
    "cluster.local/ns/bar/sa/a",
    "cluster.local/ns/foobar/sa/ab",
    "cluster.local/ns/foo/sa/a/more/z",
    "cluster.local/ns/foo/k/v/sa/a",
    "cluster.local/workload/foo",
    "old-td/ns/foo/sa/a",
    "old-td/ns/bar/sa/b",
    "other.td/ns/foo/sa/a",
    "cluster.local.evil/ns/foo/sa/a",
    "xcluster.local/ns/bar/sa/a",
]
ASKED_PRINCIPALS = [
    *PRINCIPALS[:6],
    "old-td/ns/foo/sa/a",
    "other.td/ns/foo/sa/a",
    "*",
    "*/ns/foo/sa/a",
    "*/sa/b",
    "cluster.local/*",
    "cluster.local/ns/foo/*",
    "cluster*",
    "*a",
    "*local/ns/foo/sa/a",
    "spiffe://cluster.local/ns/foo/sa/a",
    "new-td/ns/foo/sa/a",
    "*td/ns/foo/sa/a",
    "cluster.local/ns/foo/sa/*",
    "cluster.local",
    "*/ns/*",
]
NAMESPACES = ["foo", "bar", "foobar", "foo*", "*bar", "*", "fo", "o*"]
ACCOUNTS = ["a", "b", "foo/a", "bar/a", "foobar/ab", "bar/b", "ab"]
DOMAINS = ["cluster.local", "old-td", "other.td", "*", "cluster*", "*.td", "*local", "local"]
TOKEN_PRINCIPALS = [
    "*",
    "https://i.test/x/s1",
    "https://i.test/x/*",
    "https://i.test/*",
    "*/s1",
    "*s1",
    "i2/s2",
    "i2*",
    "i2/s*",
    "*.test/x/s2",
    "i2",
    "*/*",
    "i2/",
    "*/",
    "i*/s2",
    "*x/s1",
    "/s1",
    "i2/*2",
]
PEERS = ["127.0.0.1", "127.0.0.2", "127.1.2.3", "127.1.2.4", "127.200.0.1", "::1"]
BLOCKS = [
    "127.0.0.1",
    "127.0.0.0/30",
    "127.1.2.3",
    "127.1.0.0/16",
    "127.1.2.7/29",
    "::1",
    "::/0",
    "0.0.0.0/0",
    "10.0.0.0/8",
]
REMOTES = ["10.1.2.3", "1.1.1.1", "2001:db8::5", "192.168.0.1"]
REMOTE_BLOCKS = ["10.1.2.3", "10.0.0.0/8", "1.1.1.0/24", "2001:db8::/32", "127.0.0.0/8", "::1", "192.168.0.0/31"]
FORWARDED = [
    "10.1.2.3",
    "1.1.1.1, 10.1.2.3",
    "10.1.2.3, 1.1.1.1",
    "2001:db8::5",
    "192.168.0.1",
    "garbage",
    "::ffff:10.1.2.3",
    "10.1.2.3:80",
    "[2001:db8::5]",
    "10.1.2.3,",
    "10.1.2.3,  1.1.1.1 ",
    "",
]
HOSTS = [
    "[::1]:8080",
    "xn--caf-dma.test",
    "httpbin.foo",
    "HTTPBIN.foo",
    "httpbin.foo:8080",
    "httpbin",
    "a.test",
    "b.a.test",
    "a.test.",
    "other:80",
]
ASKED_HOSTS = [
    "[::1]:8080",
    "xn--caf-dma.test",
    "httpbin.foo",
    "httpbin.*",
    "*.test",
    "a.test",
    "*",
    "A.Test",
    "httpbin.foo:8080",
    "other*",
    "*:80",
]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]
ASKED_METHODS = [*METHODS, "P*", "*T", "*", "get", "*E"]
PLAIN_PATHS = [
    "/",
    "/a",
    "/a/b",
    "/A",
    "/ab",
    "/a/b/c",
    "/admin",
    "/admin/x",
    "/x.html",
    "/a/",
    "/admin/x/y",
    "/healthz",
]
ODD_PATHS = [
    "//a",
    "/a//b",
    "/a/./b",
    "/x/../a",
    "/admin/../a",
    "/a/b/..",
    "/%61",
    "/a%2Fb",
    "/a%2fb",
    "/a/%2e%2e/admin",
    "/a%5cb",
    "/a\\b",
    "/a%252Fb",
    "/%E9",
    "/caf%C3%A9",
    "/a;x=1/b",
    "/a%20b",
    "/..//admin",
    "/a%3Fb",
    "/%2e/a",
    "/a.",
    "/admin%2Fx",
    "/admin//x",
]
ASKED_PATHS = [
    *PLAIN_PATHS,
    "/a*",
    "/a/*",
    "/admin*",
    "/admin/*",
    "*.html",
    "*/b",
    "*",
    "*x",
    "/caf%C3%A9",
    "/a%2Fb",
]
TEMPLATES = [
    "/{*}/{*}",
    "/a/{*}/b/{**}",
    "/{**}/b",
    "/a/{*}",
    "/{*}/b",
    "/a/{**}",
    "/admin/{*}/y",
    "/{*}",
    "/{**}",
    "/a/{*}/{**}",
    "/{*}/x",
]
QUERIES = ["", "", "", "?", "?a=1", "?x=/admin", "?%2F..", "?a?b"]
HEADERS = ["x-a", "X-B", "x-token", "cookie", "x-a", "user-agent"]
VALUES = ["1", "2", "12", "a", "A", "admin", "a b", "", "x-admin", "admin-x", "1,2", "a, admin"]
ASKED_VALUES = ["1", "1*", "*2", "a", "admin", "*", "*admin", "admin*", "a b"]
PORTS = [8080, 8081, 9090]
DESTINATIONS = ["10.10.10.10", "10.10.10.11", "192.168.3.4"]
DESTINATIONS_6 = ["2001:db8::1", "2001:db8::2"]
ASKED_DESTINATIONS = ["10.10.10.10", "10.10.0.0/16", "192.168.0.0/16", "2001:db8::1", "2001:db8::/32", "10.10.10.11/31"]
NAMES = ["", "a.test", "b.a.test", "httpbin.foo"]
ASKED_NAMES = ["a.test", "*.test", "httpbin*", "*", "*a.test"]
CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://i.test/x", "sub": "s1"},
    {"iss": "https://i.test/x", "sub": "s2", "aud": "a1", "azp": "p1"},
    {"iss": "i2", "sub": "s2", "aud": ["a1", "a2"], "groups": ["g1", "g2"]},
    {"iss": "i2", "sub": "", "groups": "g1"},
    {"iss": "i2"},
    {"sub": "s1", "groups": []},
    {},
    {"iss": "https://i.test", "sub": "x/s1", "scope": "read write"},
    {"iss": "i2/s2", "sub": "*", "a": {"b": "c"}, "scope": ["read", "write"]},
    {"iss": 5, "sub": True, "a": {"b": ["c", "d"]}, "groups": 1},
    {"iss": "i2", "sub": "s2", "a": ["b"], "groups": {"g1": "g2"}, "azp": ["p1", "p2"]},
    {"iss": "i2", "sub": "s3", "a": {"b": {"c": "d"}}, "groups": ["G1", 1, None, ["g1"]], "aud": ""},
    {"iss": "i2", "sub": "s2", "a.b": "c", "groups": "g1 g2"},
    {"iss": "", "sub": "s1"},
    {"iss": "i2\nx", "sub": "s2", "groups": "g1\ng2"},
    {"iss": "i2", "sub": "s2", "scope": " read  ", "permission": "p q", "nothing": None},
]
CLAIM_KEYS = {
    "request.auth.audiences": ["a1", "a*", "*2", "*"],
    "request.auth.presenter": ["p1", "p*", "*"],
    "request.auth.claims[groups]": ["g1", "g2", "*1", "*", "G1", "1"],
    "request.auth.claims[a][b]": ["c", "d", "*"],
    "request.auth.claims[a]": ["b", "*"],
    "request.auth.claims[scope]": ["read", "write", "w*", "*", "read write"],
    "request.auth.claims[iss]": ["i2", "https://*", "*"],
    "request.auth.claims[permission]": ["p", "q"],
    "request.auth.claims[nothing]": ["*"],
    "request.auth.claims[a.b]": ["c", "*"],
    "request.auth.claims[sub]": ["s*", "*1", "*"],
    "request.auth.claims[a][b][c]": ["d", "*"],
}
OF_SOURCE = {
    "principals": ASKED_PRINCIPALS,
    "requestPrincipals": TOKEN_PRINCIPALS,
    "namespaces": NAMESPACES,
    "serviceAccounts": ACCOUNTS,
    "trustDomains": DOMAINS,
    "ipBlocks": BLOCKS,
    "remoteIpBlocks": REMOTE_BLOCKS,
}
OF_OPERATION = {
    "hosts": ASKED_HOSTS,
    "ports": [str(port) for port in PORTS],
    "methods": ASKED_METHODS,
    "paths": [*ASKED_PATHS, *TEMPLATES],
}
CONDITIONS = {
    "source.ip": BLOCKS,
    "remote.ip": REMOTE_BLOCKS,
    "source.namespace": NAMESPACES,
    "source.principal": ASKED_PRINCIPALS,
    "source.serviceAccount": ACCOUNTS,
    "source.trustDomain": DOMAINS,
    "request.auth.principal": TOKEN_PRINCIPALS,
    "destination.ip": ASKED_DESTINATIONS,
    "destination.port": OF_OPERATION["ports"],
    "connection.sni": ASKED_NAMES,
    **{f"request.headers[{name}]": ASKED_VALUES for name in ("x-a", "x-b", "X-Token", "cookie", "User-Agent")},
    "request.headers[:path]": ["/a", "/a?a=1", "/a*", "*?a=1", "*", "/admin*"],
    "request.headers[:method]": ASKED_METHODS,
    "request.headers[:authority]": ASKED_HOSTS,
    "request.headers[Host]": ASKED_HOSTS,
    "request.headers[x-forwarded-for]": ["10.1.2.3", "*", "1.1.1.1*", "*10.1.2.3"],
    **CLAIM_KEYS,
}


ACCOUNT_OR_PARTS = ("serviceAccounts", "principals", "namespaces")
OTHERS: dict[str, tuple[str, ...]] = {
    "serviceAccounts": ("principals", "namespaces"),
    "principals": ("serviceaccounts",),
    "namespaces": ("serviceaccounts",),
}


def callers() -> list[Caller]:
    """So few that each has a connection of its own."""
    rng = random.Random("callers")
    found: list[Caller] = []
    for principal in [*PRINCIPALS * 3, *[""] * 12]:
        source = rng.choice(PEERS)
        destination = rng.choice(DESTINATIONS_6 if ":" in source else DESTINATIONS)
        found.append(Caller(principal, rng.choice(NAMES) if principal else "", source, destination, rng.choice(PORTS)))
    return found


CALLERS = callers()


def cases(seed: int, count: int, requests: int) -> list[Case]:
    """``count`` sets of policies with ``requests`` requests each."""
    return [Generator(random.Random(f"{seed}/{number}"), number).case(requests) for number in range(count)]


class Generator:
    """Makes one case."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.number = number

    def often(self, share: float) -> bool:
        return self.rng.random() < share

    def some(self, pool: Sequence[Any], most: int) -> list[Any]:
        return self.rng.sample(pool, min(len(pool), self.rng.randint(1, most)))

    def case(self, requests: int) -> Case:
        policies = tuple(self.policy(position) for position in range(self.rng.choice((1, 1, 2, 2, 3, 4))))
        renamed = self.often(0.2)
        rules = [rule for made in policies for rule in made["spec"].get("rules") or ()]
        return Case(
            self.number,
            policies,
            tuple(self.request(rules) for _ in range(requests)),
            self.rng.choice((*NORMALIZATIONS, "BASE", "BASE")),
            "new-td" if renamed else "cluster.local",
            self.rng.choice(((), ("old-td",), ("old-td", "other.td"))),
        )

    # -- policies -----------------------------------------------------------------------------------------------------

    def policy(self, position: int) -> Config:
        action = self.rng.choice((None, "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"))
        rules = [self.rule() for _ in range(self.rng.choice((1, 1, 2, 3)))]
        if action in (None, "ALLOW") and self.often(0.03):
            rules = []
        labels = None
        if self.often(0.25):
            labels = dict(self.some(list(LABELS.items()), 2)) if self.often(0.7) else {"app": "other"}
        return policy(
            f"p{position}",
            *rules,
            action=action,
            namespace=self.rng.choices((NAMESPACE, ROOT, "other"), (75, 20, 5))[0],
            labels=labels,
            dry_run=action != "AUDIT" and self.often(0.07),
        )

    def rule(self) -> Config:
        rule: Config = {}
        if self.often(0.6):
            rule["from"] = [{"source": self.fields(OF_SOURCE)} for _ in range(self.rng.choice((1, 1, 2)))]
        if self.often(0.6):
            rule["to"] = [{"operation": self.fields(OF_OPERATION)} for _ in range(self.rng.choice((1, 1, 2)))]
        if self.often(0.4):
            keys = self.some(list(CONDITIONS), 2)
            if self.often(0.1):
                keys.append(keys[0])  # the same key twice: both must hold
            rule["when"] = [self.condition(key) for key in keys]
        return rule

    def fields(self, known: dict[str, list[str]]) -> Config:
        made: Config = {}
        for name in self.some(list(known), 2):
            if name in ACCOUNT_OR_PARTS and any(field.casefold().endswith(OTHERS[name]) for field in made):
                continue  # Istio refuses both in one source
            negative = f"not{name[0].upper()}{name[1:]}"
            which = self.rng.choices((name, negative, "both"), (60, 30, 10))[0]
            for key in (name, negative) if which == "both" else (which,):
                made[key] = self.some(known[name], 3)
        return made

    def condition(self, key: str) -> Config:
        made: Config = {"key": key}
        which = self.rng.choices(("values", "notValues", "both"), (60, 30, 10))[0]
        for name in ("values", "notValues") if which == "both" else (which,):
            made[name] = self.some(CONDITIONS[key], 3)
        return made

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, rules: Sequence[Config]) -> Request:
        """Aimed at one of the rules, more often than not."""
        aim = self.rng.choice(rules) if rules and self.often(0.75) else {}
        source = self.rng.choice(aim.get("from") or [{}]).get("source") or {}
        operation = self.rng.choice(aim.get("to") or [{}]).get("operation") or {}
        conditions = {when["key"]: when.get("values") or [] for when in aim.get("when") or ()}
        method = self.aimed(operation.get("methods"), METHODS)
        path = self.aimed(operation.get("paths"), PLAIN_PATHS if self.often(0.75) else ODD_PATHS)
        headers: list[tuple[str, str]] = []
        for key, values in conditions.items():
            if key.startswith(
                ("request.headers[x", "request.headers[X", "request.headers[c", "request.headers[U")
            ) and self.often(0.8):
                headers.append((key[16:-1], self.aimed(values, VALUES)))
        for _ in range(self.rng.choice((0, 0, 1, 2))):
            headers.append((self.rng.choice(HEADERS), self.rng.choice(VALUES)))
        while self.often(0.35):
            headers.append((self.rng.choice(("x-forwarded-for", "X-Forwarded-For")), self.rng.choice(FORWARDED)))
        self.rng.shuffle(headers)
        return Request(
            method if method in METHODS else self.rng.choice(METHODS),
            (path if path.startswith("/") else f"/{path}") + self.rng.choice(QUERIES),
            self.aimed(operation.get("hosts"), HOSTS).replace("/", "-").removeprefix(":") or "other",
            tuple(headers),
            self.claims(source, conditions),
            self.caller(source, operation, conditions),
        )

    def aimed(self, values: Sequence[str] | None, pool: Sequence[str]) -> str:
        """Something that one of the patterns takes, or nearly; or any of the pool."""
        if not values or self.often(0.25):
            return self.rng.choice(pool)
        value = self.rng.choice(values)
        value = value.replace("{**}", self.rng.choice(("x", "x/y", ""))).replace("{*}", self.rng.choice(("x", "b", "")))
        return value.replace("*", self.rng.choice(("", "x", "b", "y/x")))

    def claims(self, source: Config, conditions: dict[str, list[str]]) -> dict[str, Any] | None:
        wanted = "requestPrincipals" in source or any(key.startswith("request.auth") for key in conditions)
        if not wanted and self.often(0.7):
            return None
        return None if self.often(0.2) else self.rng.choice(CLAIMS)

    def caller(self, source: Config, operation: Config, conditions: dict[str, list[str]]) -> Caller:
        """The best aimed of a few."""
        few = self.rng.sample(CALLERS, self.rng.choice((1, 1, 8)))

        def fits(caller: Caller) -> int:
            parts = caller.principal.split("/")
            space = parts[2] if len(parts) > 2 else ""
            told = {
                "principals": caller.principal,
                "source.principal": caller.principal,
                "namespaces": space,
                "source.namespace": space,
                "trustDomains": parts[0],
                "source.trustDomain": parts[0],
                "ipBlocks": caller.source_ip,
                "source.ip": caller.source_ip,
                "destination.ip": caller.destination_ip,
                "connection.sni": caller.sni,
                "ports": str(caller.port),
                "destination.port": str(caller.port),
            }
            asked = {**source, **operation, **conditions}
            return sum(any(fnmatchcase(told[k], v) for v in asked[k]) for k in told.keys() & asked.keys())

        return max(few, key=fits)
