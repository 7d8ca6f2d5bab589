"""Random VirtualServices and requests aimed at them: matches, near misses, and everything around. All from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]

SEGMENTS = ["a", "b", "A", "ab", "foo", "foobar", "a%20b", "a%2Fb", "%61", "a.html", "1", "x;y", "~z", ""]
REGEXES = [
    "/a.*",
    "/[ab]/?.*",
    "/foo(/bar)?",
    "/(a|b)/[0-9]+",
    r"/.*\.html",
    "/a",
    ".*",
    "/x{2,3}.*",
    "(?i)/foo.*",
    "/a|/b",
]
VALUES = ["1", "2", "12", "A", "a", "a b", "1,2", "%20", "1=2", "é"]
VALUE_REGEXES = ["1.*", "[0-9]+", "a|b", ".*", "(?i)a", ".+", "1,2"]
HEADERS = ["x-a", "x-b", "X-C", "x-d-1"]
QUERIES = ["q", "p", "Q", "q-1"]
QUERY_VALUES = ["1", "2", "", "a%20b", "a+b", "1=2", "%31"]
METHODS = ["GET", "POST", "PUT", "OPTIONS", "DELETE", "HEAD", "PATCH"]
HOSTS = ["d1.test", "d2.test", "d3.test"]
SUBSETS = ["v1", "v2"]
ORIGINS = ["https://a.test", "https://b.test", "http://a.test", "null"]
OPERATED = ["x-a", "x-b", "x-new", "x-more", "X-Case"]
OPERATED_VALUES = ["1", "two words", "%REQ(x-a)%", "%REQ(:path)%-x", "100%%", "%REQ(x-none)%", "%REQ(x-none?x-b)%"]
BACK = ["x-back", "x-resp", "x-new"]


@dataclass(frozen=True)
class Request:
    """A request line and headers as sent; ``headers`` keep order and repetition, Host is apart."""

    method: str
    target: str
    authority: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Case:
    """A VirtualService and requests to its host."""

    number: int
    service: Config
    requests: tuple[Request, ...]


def infrastructure() -> list[Config]:
    """The services that routes lead to."""
    made: list[Config] = []
    for host in HOSTS:
        made.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": host.replace(".", "-"), "namespace": "default"},
                "spec": {
                    "hosts": [host],
                    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                    "resolution": "STATIC",
                    "location": "MESH_INTERNAL",
                    "endpoints": [{"address": "127.0.0.1", "labels": {"version": v}} for v in SUBSETS],
                },
            }
        )
        made.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {"name": host.replace(".", "-"), "namespace": "default"},
                "spec": {"host": host, "subsets": [{"name": v, "labels": {"version": v}} for v in SUBSETS]},
            }
        )
    return made


def clusters() -> list[str]:
    """Names of the clusters that exist."""
    return [f"outbound|80|{subset}|{host}" for host in HOSTS for subset in ("", *SUBSETS)]


def cases(seed: int, count: int, requests: int) -> list[Case]:
    """``count`` VirtualServices with ``requests`` requests each."""
    return [Generator(random.Random(f"{seed}/{number}"), number).case(requests) for number in range(count)]


class Generator:
    """Makes one case."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.number = number
        self.host = f"c{number}.test"

    def often(self, share: float) -> bool:
        return self.rng.random() < share

    def some(self, pool: list[Any], most: int) -> list[Any]:
        return self.rng.sample(pool, self.rng.randint(1, most))

    def case(self, requests: int) -> Case:
        rules = [self.rule(position) for position in range(self.rng.randint(1, 6))]
        service = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": f"c{self.number}", "namespace": "default"},
            "spec": {"hosts": [self.host], "http": rules},
        }
        return Case(self.number, service, tuple(self.request(rules) for _ in range(requests)))

    # -- rules ------------------------------------------------------------------------------------------------------

    def rule(self, position: int) -> Config:
        rule: Config = {"name": f"r{position}"}
        if self.often(0.9):
            rule["match"] = [self.block(number) for number in range(self.rng.choice((1, 1, 1, 2, 3)))]
        kind = self.rng.random()
        if kind < 0.12:
            rule["redirect"] = self.redirect()
        elif kind < 0.2:
            rule["directResponse"] = {"status": self.rng.choice((200, 201, 302, 404, 418, 503))}
            if self.often(0.7):
                rule["directResponse"]["body"] = {"string": self.rng.choice(("hello", "", "a\nb", "é"))}
        else:
            rule["route"] = self.destinations()
            if self.often(0.3):
                rule["rewrite"] = self.rewrite()
            if self.often(0.06):
                share = self.rng.choice((0, 100, 100))
                rule["fault"] = {
                    "abort": {"httpStatus": self.rng.choice((429, 503, 418)), "percentage": {"value": share}}
                }
        if self.often(0.3):
            rule["headers"] = self.operations()
            if "authority" in rule.get("rewrite", {}):  # Istio refuses a second one
                rule["headers"].get("request", {}).get("set", {}).pop("Host", None)
        if self.often(0.15):
            rule["corsPolicy"] = self.cors()
        return rule

    def block(self, number: int) -> Config:
        block: Config = {}
        if self.often(0.3):
            block["name"] = f"m{number}"
        if self.often(0.75):
            block["uri"] = self.uri()
            if self.often(0.2):
                block["ignoreUriCase"] = True
        if self.often(0.35):
            block["headers"] = {name: self.value_match() for name in self.some(HEADERS, 2)}
        if self.often(0.15):
            block["withoutHeaders"] = {name: self.value_match() for name in self.some(HEADERS, 2)}
        if self.often(0.2):
            block["queryParams"] = {name: self.query_match() for name in self.some(QUERIES, 2)}
        if self.often(0.2):
            block["method"] = self.rng.choice(
                ({"exact": self.rng.choice(METHODS)}, {"prefix": "P"}, {"regex": "GET|POST"}, {"exact": "get"})
            )
        if self.often(0.08):
            block["authority"] = self.rng.choice(
                ({"exact": self.host}, {"prefix": f"c{self.number}"}, {"regex": ".*:80"}, {"exact": "other"})
            )
        if self.often(0.05):
            block["scheme"] = {"exact": self.rng.choice(("http", "https"))}
        return block

    def path(self) -> str:
        return "/" + "/".join(self.rng.choice(SEGMENTS) for _ in range(self.rng.choice((0, 1, 1, 2, 2, 3))))

    def uri(self) -> Config:
        kind = self.rng.random()
        if kind < 0.4:
            return {"prefix": self.path()}
        return {"exact": self.path()} if kind < 0.75 else {"regex": self.rng.choice(REGEXES)}

    def value_match(self) -> Config:
        kind = self.rng.random()
        if kind < 0.2:
            return {}
        if kind < 0.6:
            return {"exact": self.rng.choice(VALUES)}
        return {"prefix": self.rng.choice(VALUES)} if kind < 0.8 else {"regex": self.rng.choice(VALUE_REGEXES)}

    def query_match(self) -> Config:
        kind = self.rng.random()
        if kind < 0.2:
            return {}
        return {"exact": self.rng.choice(QUERY_VALUES)} if kind < 0.75 else {"regex": self.rng.choice(VALUE_REGEXES)}

    def destinations(self) -> list[Config]:
        count = self.rng.choice((1, 1, 1, 2, 3))
        made: list[Config] = []
        for position in range(count):
            destination: Config = {"host": self.rng.choice(HOSTS)}
            if self.often(0.6):
                destination["subset"] = self.rng.choice((*SUBSETS, *SUBSETS, *SUBSETS, "none"))
            target: Config = {"destination": destination}
            if count > 1:
                target["weight"] = self.rng.choice((1, 1, 3, 50, 0)) if position else self.rng.choice((1, 7))
            elif self.often(0.2):
                target["weight"] = self.rng.choice((0, 100))
            if self.often(0.25):
                target["headers"] = self.operations()
            made.append(target)
        return made

    def operations(self) -> Config:
        made: Config = {}
        if self.often(0.8):
            request: Config = {}
            if self.often(0.6):
                request["set"] = {name: self.rng.choice(OPERATED_VALUES) for name in self.some(OPERATED, 2)}
            if self.often(0.5):
                request["add"] = {name: self.rng.choice(OPERATED_VALUES) for name in self.some(OPERATED, 2)}
            if self.often(0.4):
                request["remove"] = self.some(OPERATED, 2)
            if self.often(0.1):
                request.setdefault("set", {})["Host"] = "set.test"
            made["request"] = request
        if self.often(0.4):
            made["response"] = {
                "set": {name: self.rng.choice(OPERATED_VALUES[:4]) for name in self.some(BACK, 2)},
                "add": {name: self.rng.choice(OPERATED_VALUES[:2]) for name in self.some(BACK, 1)},
                "remove": self.some(BACK, 1),
            }
        return made

    def rewrite(self) -> Config:
        made: Config = {}
        kind = self.rng.random()
        if kind < 0.6:
            made["uri"] = self.rng.choice(("/", "/z", "/z/", "/z/y"))
        elif kind < 0.8:
            match, replacement = self.rng.choice(
                (("/([0-9])", r"/<\1>"), ("^/(.*)$", r"/new/\1"), ("a", "bb"), ("(a)(b)?", r"\2\1"), ("//+", "/"))
            )
            made["uriRegexRewrite"] = {"match": match, "rewrite": replacement}
        if not made or self.often(0.3):
            made["authority"] = "rewritten.test"
        return made

    def redirect(self) -> Config:
        made: Config = {}
        if self.often(0.6):
            made["uri"] = self.rng.choice(("/n", "/n?own=1", "/n/m", "/"))
        if self.often(0.4):
            made["authority"] = self.rng.choice(("r.test", "r.test:81"))
        if self.often(0.4):
            made["scheme"] = self.rng.choice(("http", "https"))
        if self.often(0.3) and ":" not in made.get("authority", ""):  # Envoy would write both ports: r.test:81:8080
            made["port"] = self.rng.choice((80, 443, 8080))
        elif self.often(0.2) and ":" not in made.get("authority", ""):
            made["derivePort"] = self.rng.choice(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"))
        if made.keys() <= {"derivePort"}:
            made["scheme"] = "https"  # Istio wants something to change
        if self.often(0.6):
            made["redirectCode"] = self.rng.choice((301, 302, 303, 307, 308))
        return made

    def cors(self) -> Config:
        made: Config = {}
        if self.often(0.9):
            made["allowOrigins"] = [
                self.rng.choice(
                    ({"exact": "https://a.test"}, {"exact": "*"}, {"prefix": "https://"}, {"regex": ".*[.]test"})
                )
                for _ in range(self.rng.randint(1, 2))
            ]
        if self.often(0.6):
            made["allowMethods"] = self.rng.choice((["GET"], ["GET", "PUT"], ["*"]))
        if self.often(0.6):
            made["allowHeaders"] = self.rng.choice((["x-a"], ["x-a", "x-b"], ["*"]))
        if self.often(0.4):
            made["exposeHeaders"] = ["x-back", "x-resp"]
        if self.often(0.4):
            made["maxAge"] = self.rng.choice(("1s", "600s"))
        if self.often(0.4):
            made["allowCredentials"] = self.often(0.7)
        if self.often(0.3):
            made["unmatchedPreflights"] = self.rng.choice(("FORWARD", "IGNORE"))
        return made

    # -- requests ---------------------------------------------------------------------------------------------------

    def request(self, rules: list[Config]) -> Request:
        method, path, query = self.rng.choice(METHODS[:4]), self.path(), ""
        headers: list[tuple[str, str]] = []
        authority = self.rng.choice((self.host, self.host, f"{self.host}:80", self.host.upper()))
        parameters: list[str] = []
        if self.often(0.8):  # aim at a block
            rule = self.rng.choice(rules)
            block = self.rng.choice(rule.get("match") or [{}])
            path = self.towards_path(block, path)
            for name, value in block.get("headers", {}).items():
                if self.often(0.85):
                    headers.append((name, self.towards(value, VALUES)))
            for name, value in block.get("withoutHeaders", {}).items():
                if self.often(0.3):
                    headers.append((name, self.towards(value, VALUES)))
            for name, value in block.get("queryParams", {}).items():
                if self.often(0.85):
                    parameters.append(f"{name}={self.towards(value, QUERY_VALUES)}")
            wanted = block.get("method", {})
            if wanted and self.often(0.85):
                method = wanted.get("exact", "POST").upper()  # Envoy's codec knows no lower-case methods
            if rule.get("corsPolicy") and self.often(0.8):
                headers.append(("origin", self.rng.choice(ORIGINS)))
                if self.often(0.5):
                    method = "OPTIONS"
                    headers.append(("access-control-request-method", "PUT"))
                    if self.often(0.5):
                        headers.append(("access-control-request-headers", "x-q,x-r"))
        while self.often(0.35):
            headers.append((self.rng.choice((*HEADERS, *OPERATED)), self.rng.choice((*VALUES, ""))))
        while self.often(0.25):
            name = self.rng.choice(QUERIES)
            parameters.append(self.rng.choice((name, f"{name}=", f"{name}={self.rng.choice(QUERY_VALUES)}", "?")))
        self.rng.shuffle(parameters)
        if parameters or self.often(0.05):
            query = "?" + "&".join(parameters)
        return Request(method, path + query, authority, tuple(headers))

    def towards_path(self, block: Config, otherwise: str) -> str:
        uri = block.get("uri", {})
        path = uri.get("exact") or uri.get("prefix")
        if path is None:
            path = (
                self.rng.choice(("/a", "/a/1", "/foo", "/foo/bar", "/x.html", "/xx", "/FOO", "/b"))
                if uri
                else otherwise
            )
        if "prefix" in uri and self.often(0.5):
            path += self.rng.choice(("", "/", "/more", "x", "/1"))
        if self.often(0.25):  # a near miss
            path = self.rng.choice(
                (
                    path + "/",
                    path[:-1] or "/",
                    path.upper(),
                    path.lower(),
                    path + "x",
                    path.replace("%20", "+"),
                    "/" + path,
                )
            )
        return path

    def towards(self, value: Config, pool: list[str]) -> str:
        found = value.get("exact", value.get("prefix"))
        if found is None or self.often(0.15):
            return self.rng.choice(pool)
        if "prefix" in value and self.often(0.5):
            return f"{found}{self.rng.choice(('', 'x', '2'))}"
        return str(found)
