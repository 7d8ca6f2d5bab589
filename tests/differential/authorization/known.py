"""Decisions that are known: Istio's documentation and tests say them. Both sides must give them, so that a misreading of Istio
that both share would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.differential.authorization.cases import ROOT, Caller, Case, Config, Request, policy

A = Caller("cluster.local/ns/a/sa/one")
B = Caller("cluster.local/ns/b/sa/two")
NOBODY = Caller()


@dataclass(frozen=True)
class Known:
    """What must come of requests: those in ``let_in`` get 200, those in ``refused`` 403."""

    policies: tuple[Config, ...]
    let_in: tuple[Request, ...] = ()
    refused: tuple[Request, ...] = ()
    more: tuple[tuple[str, Any], ...] = ()

    def case(self, number: int) -> Case:
        return Case(number, self.policies, self.let_in + self.refused, **dict(self.more))

    def statuses(self) -> list[int]:
        return [200] * len(self.let_in) + [403] * len(self.refused)


def get(target: str = "/", caller: Caller = A, **more: Any) -> Request:
    return Request("GET", target, caller=caller, **more)


def post(target: str = "/", caller: Caller = A, **more: Any) -> Request:
    return Request("POST", target, caller=caller, **more)


def source(**fields: Any) -> Config:
    return {"from": [{"source": fields}]}


def operation(**fields: Any) -> Config:
    return {"to": [{"operation": fields}]}


def when(key: str, *values: str, none_of: tuple[str, ...] = ()) -> Config:
    condition: Config = {"key": key}
    if values:
        condition["values"] = list(values)
    if none_of:
        condition["notValues"] = list(none_of)
    return {"when": [condition]}


def token(**claims: Any) -> Request:
    return Request(claims=claims, caller=A)


def with_headers(*pairs: tuple[str, str]) -> Request:
    return Request(headers=pairs, caller=A)


def allow(*rules: Config, **more: Any) -> tuple[Config, ...]:
    return (policy("allow", *rules, **more),)


def deny(*rules: Config, **more: Any) -> tuple[Config, ...]:
    return (policy("deny", *rules, action="DENY", **more),)


ALIASES = (("trust_domain", "td1"), ("aliases", ("old-td", "foo-td")))

KNOWN: dict[str, Known] = {
    "no policy": Known((), (get(), get(caller=NOBODY))),
    "ALLOW without rules allows nothing": Known(allow(), (), (get(), get(caller=NOBODY))),
    "ALLOW with an empty rule allows all": Known(allow({}), (get(), get(caller=NOBODY))),
    "DENY with an empty rule refuses all": Known(deny({}), (), (get(), get(caller=NOBODY))),
    "DENY goes before ALLOW": Known(
        (*deny(operation(paths=["/admin*"])), *allow(operation(methods=["GET"]))),
        (get("/x"),),
        (get("/admin"), get("/administrator"), post("/x")),
    ),
    "AUDIT decides nothing": Known((policy("audit", {}, action="AUDIT"),), (get(),)),
    "a policy on trial decides nothing": Known(
        (policy("trial", {}, action="DENY", dry_run=True), policy("other", dry_run=True)), (get(),)
    ),
    "of two ALLOW policies either lets in": Known(
        (policy("one", operation(paths=["/a"])), policy("two", operation(paths=["/b"]))),
        (get("/a"), get("/b")),
        (get("/c"),),
    ),
    "the root namespace's policies apply, other namespaces' do not": Known(
        (
            policy("root", operation(paths=["/root"]), action="DENY", namespace=ROOT),
            policy("other", {}, action="DENY", namespace="other"),
        ),
        (get(),),
        (get("/root"),),
    ),
    "a selector that does not take the workload": Known(
        (policy("v2", {}, action="DENY", labels={"app": "httpbin", "version": "v2"}),), (get(),)
    ),
    "a selector that takes the workload": Known(
        (policy("v1", {}, action="DENY", labels={"app": "httpbin"}),), (), (get(),)
    ),
    "all fields of a rule must hold": Known(
        allow(source(principals=["cluster.local/ns/a/*"]) | operation(methods=["GET"], paths=["/x"])),
        (get("/x"),),
        (get("/x", B), post("/x"), get("/y")),
    ),
    "any of several from and to": Known(
        allow(
            {
                "from": [{"source": {"namespaces": ["a"]}}, {"source": {"namespaces": ["b"]}}],
                "to": [{"operation": {"paths": ["/x"]}}, {"operation": {"methods": ["POST"]}}],
            }
        ),
        (get("/x"), get("/x", B), post("/y", B)),
        (get("/y"), get("/x", NOBODY)),
    ),
    "plain text has no principal": Known(
        allow(source(principals=["cluster.local/ns/a/*"])), (get(),), (get(caller=NOBODY), get(caller=B))
    ),
    "principals * wants mTLS": Known(allow(source(principals=["*"])), (get(), get(caller=B)), (get(caller=NOBODY),)),
    "DENY notPrincipals hits plain text": Known(
        deny(source(notPrincipals=["cluster.local/ns/a/sa/one"])), (get(),), (get(caller=B), get(caller=NOBODY))
    ),
    "DENY notPrincipals * refuses who has none": Known(
        deny(source(notPrincipals=["*"])), (get(),), (get(caller=NOBODY),)
    ),
    "principals by suffix": Known(allow(source(principals=["*/sa/one"])), (get(),), (get(caller=B),)),
    "namespaces are whole": Known(
        allow(source(namespaces=["a"])),
        (get(), get(caller=Caller("td/ns/a/sa/x"))),
        (get(caller=Caller("cluster.local/ns/aa/sa/one")), get(caller=B)),
    ),
    "namespaces by prefix and suffix": Known(
        allow(source(namespaces=["a*", "*z"])),
        (get(), get(caller=Caller("td/ns/ab/sa/x")), get(caller=Caller("td/ns/yz/sa/x"))),
        (get(caller=B),),
    ),
    "service accounts": Known(
        allow(source(serviceAccounts=["a/one", "local"])),
        (get(), get(caller=Caller("td/ns/foo/sa/local")), get(caller=Caller("td/ns/a/k/v/sa/one/x"))),
        (get(caller=B), get(caller=Caller("td/ns/a/sa/local")), get(caller=Caller("td/ns/a/sa/one-more"))),
    ),
    "trust domains": Known(
        allow(source(trustDomains=["cluster.local", "other*"])),
        (get(), get(caller=Caller("other.td/ns/a/sa/x"))),
        (get(caller=Caller("cluster.local.x/ns/a/sa/x")), get(caller=Caller("an.other/ns/a/sa/x")), get(caller=NOBODY)),
    ),
    "aliases of the trust domain": Known(
        allow(source(principals=["cluster.local/ns/a/sa/one"])),
        tuple(get(caller=Caller(f"{td}/ns/a/sa/one")) for td in ("td1", "old-td", "foo-td")),
        (get(), get(caller=Caller("td2/ns/a/sa/one"))),
        ALIASES,
    ),
    "aliases stand for each other": Known(
        allow(source(principals=["old-td/ns/a/sa/one"])),
        tuple(get(caller=Caller(f"{td}/ns/a/sa/one")) for td in ("td1", "old-td", "foo-td")),
        (get(caller=Caller("td1/ns/a/sa/two")),),
        ALIASES,
    ),
    "principals of a stranger keep their trust domain": Known(
        allow(source(principals=["td2/ns/a/sa/one"])),
        (get(caller=Caller("td2/ns/a/sa/one")),),
        (get(caller=Caller("td1/ns/a/sa/one")),),
        ALIASES,
    ),
    "trustDomains know aliases": Known(
        allow(source(trustDomains=["td1"])),
        (get(caller=Caller("foo-td/ns/a/sa/one")),),
        (get(caller=Caller("td2/ns/a/sa/one")),),
        ALIASES,
    ),
    "request principals split at the last slash": Known(
        allow(source(requestPrincipals=["https://issuer.test/x/sub"])),
        (token(iss="https://issuer.test/x", sub="sub"),),
        (token(iss="https://issuer.test", sub="x/sub"), token(iss="https://issuer.test/x", sub="other"), get()),
    ),
    "request principals *": Known(
        allow(source(requestPrincipals=["*"])),
        (token(iss="i", sub="s"),),
        (get(), token(iss="i"), token(sub="s")),
    ),
    "request principals by prefix and suffix": Known(
        allow(source(requestPrincipals=["i/*", "*/admin"])),
        (token(iss="i", sub="x"), token(iss="j", sub="admin")),
        (token(iss="ij", sub="x"), token(iss="j", sub="x-admin")),
    ),
    "no token passes notRequestPrincipals": Known(
        deny(source(notRequestPrincipals=["*"])), (token(iss="i", sub="s"),), (get(),)
    ),
    "claims": Known(
        allow(when("request.auth.claims[groups]", "g1", "ad*")),
        (token(groups="g1"), token(groups=["x", "admin"])),
        (token(groups="x"), token(groups=["G1"]), token(), get(), token(groups={"g1": "g1"}), token(groups=1)),
    ),
    "nested claims": Known(
        allow(when("request.auth.claims[a][b]", "x")),
        (token(a={"b": "x"}), token(a={"b": ["y", "x"]})),
        (token(a="x"), token(b="x"), token(a=["b", "x"]), token(a={"b": {"x": "x"}})),
    ),
    "claims that are words": Known(
        allow(when("request.auth.claims[scope]", "write")),
        (token(scope="read write"), token(scope="write")),
        (token(scope="read"), token(scope="writeall")),
    ),
    "audiences and presenter": Known(
        allow(when("request.auth.audiences", "a1"), when("request.auth.presenter", "p*")),
        (token(aud="a1"), token(aud=["a0", "a1"]), token(azp="p1"), token(azp=["p2"])),
        (token(aud="a2"), token(azp="q"), get()),
    ),
    "paths": Known(
        allow(operation(paths=["/exact", "/prefix/*", "*/suffix"])),
        (get("/exact"), get("/exact?query=1"), get("/prefix/"), get("/prefix/a/b"), get("/a/suffix"), get("/suffix")),
        (get("/exact/"), get("/Exact"), get("/prefix"), get("/suffix/a"), get("/a?x=/suffix")),
    ),
    "path templates": Known(
        allow(operation(paths=["/a/{*}/c", "/t/{**}"])),
        (get("/a/b/c"), get("/t/x/y"), get("/t/"), get("/a/b/c?q")),
        (get("/a/b/d/c"), get("/t"), get("/a//c"), get("/a/b/c/")),
    ),
    "path templates in the middle": Known(
        allow(operation(paths=["/allow/admin/{**}", "/foo/{*}/bar/{**}", "/store/{**}/cart"])),
        (
            *map(get, ("/allow/admin/", "/allow/admin/temp.txt", "/allow/admin/foo/temp.txt", "/foo/buzz/bar/bat.txt")),
            *map(get, ("/foo/buzz/bar/bat/fuzz.txt", "/store//cart", "/store/foo/cart", "/store/foo/bar/cart")),
        ),
        (
            *map(get, ("/allow/admin", "/allow/user/", "/allow/admin?param=value", "/allow", "/foo/bar/bat.txt")),
            *map(get, ("/foo//bar/bat.txt", "/store/cart", "/store/foo/cart/", "/foo/buzz/bar")),
        ),
    ),
    "DENY of a template": Known(
        deny(operation(paths=["/t/{**}", "/s/{*}"])),
        (get("/t"), get("/s/"), get("/s/a/b")),
        (get("/t/"), get("/t/x/y"), get("/s/a")),
    ),
    "DENY of a path inside what ALLOW lets in": Known(
        (*deny(operation(paths=["/allow/admin"])), *allow(operation(paths=["/allow*"]))),
        (get("/allow"), get("/allow?param=value"), get("/allow/admin/x")),
        (get("/allow/admin"), get("/allow/admin?param=value"), get("/other")),
    ),
    "DENY by who and where, but for some paths": Known(
        (
            policy(
                "global",
                operation(paths=["/global-deny*"], notPaths=["/global-deny/allow"]),
                action="DENY",
                namespace=ROOT,
            ),
            *deny(
                source(principals=["cluster.local/ns/b/sa/two"]) | operation(paths=["/deny*"], notPaths=["/deny/allow"])
            ),
        ),
        (get("/deny"), get("/deny/allow", B), get("/allow", B), get("/global-deny/allow")),
        (get("/deny", B), get("/deny?param=value", B), get("/global-deny"), get("/global-deny?param=value", B)),
    ),
    "notNamespaces, notServiceAccounts, notTrustDomains": Known(
        allow(source(notNamespaces=["b"], notTrustDomains=["bad*"])),
        (get(), get(caller=Caller("td/ns/c/sa/x"))),
        (get(caller=B), get(caller=Caller("bad.td/ns/a/sa/one"))),
    ),
    "notPaths alone": Known(allow(operation(notPaths=["/healthz"])), (get("/x"),), (get("/healthz"),)),
    "paths and notPaths": Known(
        deny(operation(paths=["/admin/*"], notPaths=["/admin/login"])),
        (get("/x"), get("/admin/login")),
        (get("/admin/x"),),
    ),
    "paths are normalized first": Known(
        allow(operation(paths=["/a/b"])), (get("/a/./b"), get("/x/../a/b"), get("/a/%62")), (get("/a//b"),)
    ),
    "what is denied is denied however it is spelled": Known(
        deny(operation(paths=["/admin", "/admin/*"])),
        (get("/x"), get("/admin/../x"), get("/administrator")),
        (get("/x/../admin"), get("/%61dmin"), get("/./admin/y"), get("/x/%2e%2E/admin")),
    ),
    "slashes are merged when the mesh says so": Known(
        allow(operation(paths=["/a/b"])), (get("/a//b"), get("//a/./b")), (), (("normalization", "MERGE_SLASHES"),)
    ),
    "escaped slashes are decoded when the mesh says so": Known(
        allow(operation(paths=["/a/b"])),
        (get("/a%2fb"), get("/a%2F/b"), get("/a%5Cb")),
        (),
        (("normalization", "DECODE_AND_MERGE_SLASHES"),),
    ),
    "methods are upper case": Known(
        allow(operation(methods=["GET", "P*"])), (get(), post()), (Request("DELETE", caller=A),)
    ),
    "hosts in any case, with their port": Known(
        allow(operation(hosts=["Httpbin.foo", "*.test:80"])),
        (get(), get(authority="HTTPBIN.FOO"), get(authority="x.test:80")),
        (get(authority="httpbin.foo:8080"), get(authority="x.test")),
    ),
    "ports": Known(
        allow(operation(ports=["8080"])),
        (get(),),
        (get(caller=Caller(A.principal, port=9090)),),
    ),
    "destination.port and ports together": Known(
        deny(operation(notPorts=["8080"]) | when("destination.port", none_of=("7070",))),
        (get(), get(caller=Caller(port=7070))),
        (get(caller=Caller(port=9090)),),
    ),
    "ipBlocks are of the peer": Known(
        allow(source(ipBlocks=["127.0.0.2", "127.1.0.0/16"])),
        (get(caller=Caller(source_ip="127.0.0.2")), get(caller=Caller(source_ip="127.1.2.3"))),
        (get(), get(caller=Caller(source_ip="127.0.0.1"), headers=(("x-forwarded-for", "127.0.0.2"),))),
    ),
    "remoteIpBlocks are of the last x-forwarded-for": Known(
        allow(source(remoteIpBlocks=["10.1.0.0/16", "127.0.0.9"])),
        (
            get(headers=(("x-forwarded-for", "1.1.1.1, 10.1.2.3"),)),
            get(caller=Caller(source_ip="127.0.0.9")),
            get(caller=Caller(source_ip="127.0.0.9"), headers=(("x-forwarded-for", "garbage"),)),
        ),
        (
            get(),
            get(headers=(("x-forwarded-for", "10.1.2.3, 1.1.1.1"),)),
            get(caller=Caller(source_ip="127.0.0.9"), headers=(("x-forwarded-for", "1.1.1.1"),)),
        ),
    ),
    "notIpBlocks": Known(
        deny(source(notIpBlocks=["127.0.0.0/24"])), (get(),), (get(caller=Caller(source_ip="127.9.0.1")),)
    ),
    "destination.ip": Known(
        allow(when("destination.ip", "10.10.0.0/16", none_of=("10.10.10.11",))),
        (get(),),
        (get(caller=Caller(destination_ip="10.10.10.11")), get(caller=Caller(destination_ip="10.11.0.1"))),
    ),
    "connection.sni": Known(
        allow(when("connection.sni", "www.example.com", "*.test")),
        (get(caller=Caller(A.principal, "www.example.com")), get(caller=Caller(A.principal, "a.test"))),
        (get(), get(caller=NOBODY), get(caller=Caller(A.principal, "www.example.org"))),
    ),
    "hosts by prefix, suffix and in any case": Known(
        deny(operation(hosts=["deny.test", "*.suffix.test", "prefix.*"])),
        (get(authority="www.test"), get(authority="suffix.test"), get(authority="xdeny.test")),
        (
            get(authority="deny.test"),
            get(authority="DENY.TEST"),
            get(authority="Deny.Suffix.Test"),
            get(authority="PREFIX.x.test"),
        ),
    ),
    "notHosts, notMethods": Known(
        allow(operation(notHosts=["deny.test"], notMethods=["PUT"])),
        (get(authority="allow.test"), post()),
        (get(authority="deny.test"), Request("PUT", caller=A)),
    ),
    "remote.ip and notRemoteIpBlocks": Known(
        allow(source(notRemoteIpBlocks=["10.2.0.0/16"]) | when("remote.ip", "10.0.0.0/8", none_of=("10.124.99.0/24",))),
        (get(headers=(("x-forwarded-for", "10.4.5.6"),)),),
        (
            get(headers=(("x-forwarded-for", "10.2.3.4"),)),
            get(headers=(("x-forwarded-for", "10.124.99.10"),)),
            get(headers=(("x-forwarded-for", "172.17.72.46"),)),
            get(),
        ),
    ),
    "a fragment is no part of the path": Known(allow(operation(paths=["/app"])), (get("/app#foo"), get("/app?q#f"))),
    "headers": Known(
        allow(when("request.headers[X-Token]", "admin", "pre*", "*post")),
        (
            with_headers(("x-token", "admin")),
            with_headers(("X-TOKEN", "prefix")),
            with_headers(("x-token", "a-post")),
        ),
        (with_headers(("x-token", "Admin")), with_headers(("x-tokens", "admin")), get()),
    ),
    "presence of a header": Known(
        allow(when("request.headers[x-token]", "*")), (with_headers(("x-token", "")),), (get(),)
    ),
    "notValues of a header that is missing": Known(
        deny(when("request.headers[x-token]", none_of=("admin",))),
        (with_headers(("x-token", "admin")),),
        (get(), with_headers(("x-token", "x"))),
    ),
    "a header's lines are compared one by one": Known(
        (
            *deny(when("request.headers[x]", "b")),
            *allow(when("request.headers[x]", "a")),
        ),
        (with_headers(("x", " a ")),),
        (with_headers(("x", "a"), ("x", "b")), with_headers(("x", "c,a")), with_headers(("x", "a, c"))),
    ),
    "lines of some headers are joined": Known(
        allow(when("request.headers[authorization]", "a"), when("request.headers[x-user]", "a")),
        (with_headers(("authorization", "a")), with_headers(("x-user", "a"), ("x-user", "a"))),
        (with_headers(("authorization", "a"), ("authorization", "a")),),
    ),
    "DENY of who is not in a header whose lines are joined": Known(
        deny(when("request.headers[x-request-id]", none_of=("a",))),
        (with_headers(("x-request-id", "a")),),
        (with_headers(("x-request-id", "a"), ("x-request-id", "a")),),
    ),
    "empty lines of x-forwarded-for are overlooked": Known(
        deny(source(remoteIpBlocks=["1.1.1.1"])),
        (with_headers(("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("x-forwarded-for", "")),),
        (with_headers(("x-forwarded-for", "2.2.2.2, 1.1.1.1"), ("x-forwarded-for", "")),),
    ),
    "headers of the request line": Known(
        (
            policy("path", when("request.headers[:path]", "/x?y"), when("request.headers[:authority]", "a.test")),
            policy("method", when("request.headers[:method]", "POST"), when("request.headers[host]", "b.test")),
        ),
        (get("/x?y"), get(authority="a.test"), post(), get(authority="b.test")),
        (get("/x"), get("/x?z"), get(authority="A.test")),
    ),
    "request principals without a slash": Known(
        allow(source(requestPrincipals=["i", "j*", "*k"])),
        (token(iss="i", sub=""), token(iss="jx", sub="s"), token(iss="x", sub="yk")),
        (token(iss="i"), token(iss="i", sub="s"), token(iss="x", sub="j"), token(iss="k", sub="x")),
    ),
    "a claim that is empty has no value": Known(
        allow(when("request.auth.claims[g]", "*")),
        (token(g="x"), token(g=["", "y"])),
        (token(g=""), token(g=[]), token(g=[""]), token(g=1), token(g={"a": "b"}), token(g=None)),
    ),
    "a claim with a dot is one name": Known(
        allow(when("request.auth.claims[a.b]", "x")), (token(**{"a.b": "x"}),), (token(a={"b": "x"}),)
    ),
    "notValues of claims": Known(
        allow(when("request.auth.claims[g]", none_of=("a",))),
        (token(g=["b"]), token(), get()),
        (token(g="a"), token(g=["a", "b"])),
    ),
    "the SNI is in lower case": Known(
        allow(when("connection.sni", "a.test")), (get(caller=Caller(A.principal, "A.Test")),), ()
    ),
    "identities of more than namespace and account": Known(
        deny(source(namespaces=["a"])),
        (get(caller=Caller("td/workload/a")), get(caller=Caller("td/ns/b/sa/one"))),
        (get(caller=Caller("td/ns/a/sa/one/k/v")), get(caller=Caller("td/x/ns/a/y"))),
    ),
    "an IPv4 address in IPv6's clothes is no IPv4 address in x-forwarded-for": Known(
        allow(source(remoteIpBlocks=["10.1.2.3"])), (), (get(headers=(("x-forwarded-for", "::ffff:10.1.2.3"),)),)
    ),
    "conditions on who calls": Known(
        allow(when("source.namespace", "a"), when("source.principal", "cluster.local/ns/b/sa/two")),
        (get(), get(caller=B)),
        (get(caller=NOBODY), get(caller=Caller("td/ns/c/sa/x"))),
    ),
    "all conditions must hold": Known(
        allow({"when": [*when("source.namespace", "a")["when"], *when("request.headers[x]", "1")["when"]]}),
        (get(headers=(("x", "1"),)),),
        (get(), get(caller=B, headers=(("x", "1"),))),
    ),
    "gRPC is POST to a path": Known(
        allow(operation(paths=["/pkg.Svc/*"], methods=["POST"])), (post("/pkg.Svc/Get"),), (post("/pkg.Other/Get"),)
    ),
}
