"""What istiod's webhook refuses of a VirtualService is refused at its own line; what it lets pass loads."""

from __future__ import annotations

import pytest

from meshlib.errors import Severity
from meshlib.resources.loader import load_text
from tests.support.marked_lines import assert_accepted, assert_refused, document, errors

ROUTE = "http: [{route: [{destination: {host: reviews}}]}]"


def http(rule: str) -> str:
    """The spec of one http rule, written as block YAML."""
    lines = rule.strip("\n").splitlines()
    return "hosts: [reviews]\nhttp:\n- " + "\n  ".join(lines)


def routed(more: str) -> str:
    return http("route: [{destination: {host: reviews}}]\n" + more)


def matching(more: str) -> str:
    return routed("match:\n- " + more)


MANY = "".join(f"- h{number}.com\n" for number in range(9))  # the first is named, in each process (no set's order)
REFUSED = [
    # hosts, gateways, exportTo
    ("a host with a space", f"hosts:\n- reviews\n- a b  # here\n{ROUTE}", "bad-host", "not a DNS label"),
    ("a last label of digits", f"hosts:\n- shop.1  # here\n{ROUTE}", "bad-host", "only digits"),
    ("an inner wildcard", f"hosts:\n- a.*.com  # here\n{ROUTE}", "bad-host", "'*'"),
    ("* in the mesh", f"hosts:\n- '*'  # here\n{ROUTE}", "wildcard-host", "only for gateways"),
    ("one host twice", f"hosts:\n- a.com\n- b.com\n- a.com  # here\n{ROUTE}", "duplicate-host", "a.com twice"),
    ("a host and its wildcard", f"hosts:\n- '*.a.com'\n- b.a.com  # here\n{ROUTE}", "duplicate-host", "*.a.com"),
    ("wildcards within each other", f"hosts:\n- '*.b.a.com'\n- '*.a.com'  # here\n{ROUTE}", "duplicate-host", "*.a.com"),
    ("a wildcard of many", f"hosts:\n{MANY}- '*.com'  # here\n{ROUTE}", "duplicate-host", "*.com and h0.com cover"),
    ("a gateway that is no name", f"hosts: [a]\ngateways:\n- g/  # here\n{ROUTE}", "bad-gateway", "namespace/name"),
    ("a gateway with a space", f"hosts: [a]\ngateways:\n- my gate  # here\n{ROUTE}", "bad-gateway", "namespace/name"),
    ("an export twice", f"hosts: [a]\nexportTo:\n- x\n- x  # here\n{ROUTE}", "duplicate-export", "twice"),
    ("an export to . and here", f"hosts: [a]\nexportTo:\n- .\n- shop  # here\n{ROUTE}", "duplicate-export", "shop"),
    ("an export to nobody", f"hosts: [a]\nexportTo:\n- '~'  # here\n{ROUTE}", "bad-export", "ServiceEntry"),
    ("an export to no name", f"hosts: [a]\nexportTo:\n- a.b  # here\n{ROUTE}", "bad-export", "not a namespace"),
    ("an export to all and one", f"hosts: [a]\nexportTo: ['*', b]  # here\n{ROUTE}", "export-to-all-and-some", "alone"),
    # delegates
    ("a delegate with gateways", f"gateways: [g]  # here\n{ROUTE}", "delegate-with-gateways", "no gateways"),
    (
        "a delegate with tcp rules",
        "tcp:  # here\n- route: [{destination: {host: a}}]",
        "missing-field",
        "http rules only",
    ),
    (
        "a delegate that delegates",
        "http:\n- delegate: {name: a}  # here",
        "delegate-of-a-delegate",
        "may not delegate further",
    ),
    (
        "delegate and route",
        http("delegate: {name: a}\nroute: [{destination: {host: a}}]  # here"),
        "several-actions",
        "delegate",
    ),
    ("delegate and redirect", http("delegate: {name: a}\nredirect: {uri: /}  # here"), "several-actions", "delegate"),
    # actions
    ("no action", http("name: a  # here"), "no-action", "add route"),
    ("redirect and route", routed("redirect: {uri: /}").replace("}}]", "}}]  # here"), "several-actions", "route"),
    ("redirect and fault", http("redirect: {uri: /}\nfault: {abort: {httpStatus: 500}}  # here"), "several-actions", "fault"),
    ("redirect and rewrite", http("redirect: {uri: /}\nrewrite: {uri: /}  # here"), "several-actions", "rewrite"),
    (
        "redirect and directResponse",
        http("redirect: {uri: /}\ndirectResponse: {status: 200}  # here"),
        "several-actions",
        "directResponse",
    ),
    (
        "directResponse and fault",
        http("directResponse: {status: 200}\nfault: {abort: {httpStatus: 500}}  # here"),
        "several-actions",
        "fault",
    ),
    (
        "mirror and mirrors",
        routed("mirror: {host: b}\nmirrors: [{destination: {host: c}}]  # here"),
        "several-mirrors",
        "either mirror or mirrors",
    ),
    # matches
    ("an empty prefix of a method", matching("method: {prefix: ''}  # here"), "empty-prefix", "empty"),
    ("an empty prefix of a query", matching("queryParams: {a: {prefix: ''}}  # here"), "empty-prefix", "empty"),
    ("an empty regex of a uri", matching("uri: {regex: ''}  # here"), "bad-regex", "empty"),
    ("a look-ahead", matching("uri: {regex: '(?=a)'}  # here"), "bad-regex", "RE2"),
    ("a single byte", matching(r"uri: {regex: 'a\C'}  # here"), "bad-regex", "single byte"),
    ("* as the regex of a header", matching("headers: {a: {regex: '*'}}  # here"), "bad-regex", "RE2"),
    ("* as the regex of a query", matching("queryParams: {a: {regex: '*'}}  # here"), "bad-regex", "RE2"),
    ("a regex of 1,025 bytes", matching(f"uri: {{regex: {'a' * 1025}}}  # here"), "bad-regex", "1024"),
    ("exact and prefix", matching("uri: {exact: /, prefix: /}  # here"), "crd-one-of", "exact and prefix"),
    ("a header with a space", matching("headers: {a b: {exact: c}}  # here"), "bad-header-name", "'a b'"),
    ("an unknown pseudo header", matching("withoutHeaders: {':port': {exact: c}}  # here"), "bad-header-name", ":port"),
    (
        "a claim in the mesh",
        matching("headers: {'@request.auth.claims.sub': {exact: c}}  # here"),
        "claim-without-gateway",
        "gateways",
    ),
    ("a label of no key", matching("sourceLabels: {a/b/c: d}  # here"), "bad-label", "a/b/c"),
    ("a label of no value", matching("sourceLabels: {app: '-'}  # here"), "bad-label", "'-'"),
    ("a namespace with a dot", matching("sourceNamespace: a.b  # here"), "bad-name", "namespace"),
    ("a port beyond 65535", matching("port: 65536  # here"), "bad-port", "65535"),
    ("a negative port", matching("port: -1  # here"), "bad-port", "-1"),
    ("a gateway of a match", matching("gateways: [a/b/c]  # here"), "bad-gateway", "a/b/c"),
    # headers
    ("a header without name", routed("headers: {request: {add: {'': a}}}  # here"), "bad-header-name", "empty"),
    ("a pseudo header set", routed("headers: {request: {set: {':path': /}}}  # here"), "protected-header", ":path"),
    ("Host of a response", routed("headers: {response: {set: {Host: a}}}  # here"), "protected-header", "Host"),
    ("Host removed", routed("headers: {request: {remove: [host]}}  # here"), "protected-header", "host"),
    ("a line break in a value", routed('headers: {request: {set: {a: "b\\nc"}}}  # here'), "bad-header-value", "control"),
    ("a lone percent sign", routed("headers: {request: {set: {a: 100%}}}  # here"), "bad-header-value", "lone %"),
    ("an operator without end", routed("headers: {request: {add: {a: '%REQ(b)'}}}  # here"), "bad-header-value", "%"),
    (
        "a value of a destination",
        http("route:\n- destination: {host: a}\n  headers: {response: {add: {a: '%b'}}}  # here"),
        "bad-header-value",
        "%...%",
    ),
    (
        "the authority rewritten and set",
        routed("rewrite: {authority: a.com}\nheaders: {request: {set: {Host: b.com}}}  # here"),
        "several-authorities",
        "a.com",
    ),
    # corsPolicy, fault, mirror
    ("an origin of nothing", routed("corsPolicy: {allowOrigins: [{exact: ''}]}  # here"), "empty-origin", "every origin"),
    ("a method of CORS", routed("corsPolicy: {allowMethods: [get]}  # here"), "bad-method", "GET"),
    ("a header of CORS", routed("corsPolicy: {allowHeaders: ['a b']}  # here"), "bad-header-name", "a b"),
    ("half a second of CORS", routed("corsPolicy: {maxAge: 1500ms}  # here"), "duration-precision", "seconds"),
    ("a fault of nothing", routed("fault: {}  # here"), "empty-fault", "delay or abort"),
    (
        "a share of 101",
        routed("fault: {abort: {httpStatus: 500, percentage: {value: 101}}}  # here"),
        "bad-percent",
        "0..100",
    ),
    (
        "a share too small",
        routed("fault: {delay: {fixedDelay: 1s, percentage: {value: 0.00001}}}  # here"),
        "bad-percent",
        "0.0001",
    ),
    ("an abort of 99", routed("fault: {abort: {httpStatus: 99}}  # here"), "bad-status", "200..600"),
    ("a gRPC status in lower case", routed("fault: {abort: {grpcStatus: unavailable}}  # here"), "bad-enum", "UNAVAILABLE"),
    ("two aborts", routed("fault: {abort: {grpcStatus: OK, httpStatus: 500}}  # here"), "crd-one-of", "grpcStatus"),
    ("an exponential delay", routed("fault: {delay: {exponentialDelay: 1s}}  # here"), "not-supported", "fixedDelay"),
    ("a mirror's share of -1", routed("mirror: {host: b}\nmirrorPercentage: {value: -1}  # here"), "bad-percent", "-1"),
    (
        "the share of one of the mirrors",
        routed("mirrors: [{destination: {host: b}, percentage: {value: 200}}]  # here"),
        "bad-percent",
        "200",
    ),
    ("a mirror to *", routed("mirror: {host: '*'}  # here"), "bad-host", "not a host to send to"),
    # redirect, directResponse, rewrite
    ("a redirect to nowhere", http("redirect: {redirectCode: 302}  # here"), "empty-redirect", "uri"),
    ("a redirect of 200", http("redirect: {uri: /, redirectCode: 200}  # here"), "bad-status", "redirect"),
    ("a redirect to ftp", http("redirect: {scheme: ftp}  # here"), "bad-enum", "http or https"),
    ("a redirect to port 65536", http("redirect: {port: 65536}  # here"), "bad-port", "65535"),
    ("a redirect of two paths", http("redirect: {uri: /a, prefixRewrite: /b}  # here"), "several-rewrites", "either"),
    (
        "a redirect of two ports",
        http("redirect: {port: 1, derivePort: FROM_REQUEST_PORT}  # here"),
        "crd-one-of",
        "port and derivePort",
    ),
    (
        "prefixRewrite of an exact uri",
        http("match: [{uri: {exact: /a}}]\nredirect: {prefixRewrite: /b}  # here"),
        "prefix-rewrite-without-prefix",
        "match[0]",
    ),
    ("a direct response of 0", http("directResponse: {status: 0}  # here"), "bad-status", "200..600"),
    (
        "a body of over 1 MB",
        http(f"directResponse:\n  status: 200\n  body:  # here\n    string: {'a' * ((1 << 20) + 1)}"),
        "body-too-large",
        "1 MB",
    ),
    ("a rewrite of nothing", routed("rewrite: {uri: ''}  # here"), "empty-rewrite", "uri"),
    (
        "a rewrite without replacement",
        routed("rewrite: {uriRegexRewrite: {match: a}}  # here"),
        "missing-field",
        "match and rewrite",
    ),
    ("a rewrite by a bad regex", routed("rewrite: {uriRegexRewrite: {match: (, rewrite: b}}  # here"), "bad-regex", "RE2"),
    # retries, timeout
    ("attempts 0 and retryOn", routed("retries: {attempts: 0, retryOn: 5xx}  # here"), "retries-off-and-on", "retryOn"),
    (
        "no attempts and remote localities",
        routed("retries: {retryRemoteLocalities: false}  # here"),
        "retries-off-and-on",
        "retryRemoteLocalities",
    ),
    ("an unknown condition", routed("retries: {attempts: 1, retryOn: '5xx,sometimes'}  # here"), "bad-retry-on", "sometimes"),
    ("a condition with a space", routed("retries: {attempts: 1, retryOn: '5xx, reset'}  # here"), "bad-retry-on", "space"),
    ("a status that is none", routed("retries: {attempts: 1, retryOn: '299'}  # here"), "bad-retry-on", "299"),
    ("a condition of nothing", routed("retries: {attempts: 1, retryOn: '5xx,'}  # here"), "bad-retry-on", "''"),
    ("a timeout below 1 ms", routed("timeout: 999us  # here"), "duration-too-short", "1ms"),
    ("a timeout with a space", routed("timeout: ' 1s'  # here"), "bad-duration", "1.5s"),
    # destinations
    (
        "weights of 0",
        http("route:  # here\n- destination: {host: a}\n- destination: {host: b}"),
        "weights-sum-zero",
        "90 and 10",
    ),
    ("a weight of -1", http("route: [{destination: {host: a}, weight: -1}]  # here"), "negative", "-1"),
    ("a weight of 2^31", http("route: [{destination: {host: a}, weight: 2147483648}]  # here"), "out-of-range", "2147483647"),
    ("no host", http("route: [{destination: {host: ''}}]  # here"), "missing-host", "empty"),
    ("an address to send to", http("route: [{destination: {host: 10.0.0.1}}]  # here"), "bad-host", "only digits"),
    ("a port without number", http("route: [{destination: {host: a, port: {}}}]  # here"), "missing-field", "number"),
    ("port 0", http("route: [{destination: {host: a, port: {number: 0}}}]  # here"), "bad-port", "1..65535"),
    ("a subset with a dot", http("route: [{destination: {host: a, subset: v.1}}]  # here"), "bad-name", "DNS label"),
    # tls and tcp rules
    (
        "a tls rule without match",
        "hosts: [a.com]\ntls:\n- match: []  # here\n  route: [{destination: {host: a}}]",
        "missing-match",
        "sniHosts",
    ),
    (
        "a match without server name",
        "hosts: [a.com]\ntls:\n- match:\n  - sniHosts: []  # here\n  route: [{destination: {host: a}}]",
        "missing-host",
        "sniHosts",
    ),
    (
        "a server name of another host",
        "hosts: [a.com]\ntls:\n- match:\n  - sniHosts: [b.com]  # here\n  route: [{destination: {host: a}}]",
        "sni-of-other-host",
        "a.com",
    ),
    (
        "a wildcard server name of an exact host",
        "hosts: [a.com]\ntls:\n- match:\n  - sniHosts: ['*.a.com']  # here\n  route: [{destination: {host: a}}]",
        "sni-of-other-host",
        "*.a.com",
    ),
    ("a tls rule without route", "hosts: [a.com]\ntls:\n- match: [{sniHosts: [a.com]}]  # here", "no-action", "route"),
    ("a tcp rule without route", "hosts: [a.com]\ntcp:\n- match: [{port: 1}]  # here", "no-action", "route"),
    (
        "a network of 33 bits",
        "hosts: [a.com]\ntcp:\n- match:\n  - destinationSubnets: [10.0.0.0/33]  # here\n  route: [{destination: {host: a}}]",
        "bad-subnet",
        "10.0.0.0/8",
    ),
    # what istiod reads and the API server refuses
    ("a quoted number", routed("retries: {attempts: '3'}  # here"), "crd-type", "without quotes"),
    ("nothing in a list", routed("match: [null]  # here"), "crd-type", "nothing"),
    ("a number for a name", http("redirect: {derivePort: 7}  # here"), "crd-enum", "FROM_REQUEST_PORT"),
    ("an unknown name", http("redirect: {derivePort: '1'}  # here"), "bad-enum", "FROM_REQUEST_PORT"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_refused_at_its_line(spec: str, code: str, words: str) -> None:
    assert_refused(document("VirtualService", spec), code, words)


ACCEPTED = {
    "a host of digits": f"hosts: ['123']\n{ROUTE}",
    "an address as host": f"hosts: [10.0.0.1]\n{ROUTE}",
    "a wildcard within a label": f"hosts: ['*a.com', '*-b.com']\n{ROUTE}",
    "the whole name with its dot": f"hosts: [a.com.]\n{ROUTE}",
    "hosts that differ in case": f"hosts: [a, A]\n{ROUTE}",
    "no hosts: a delegate": ROUTE,
    "an empty list of hosts": f"hosts: []\n{ROUTE}",
    "* at a gateway": f"hosts: ['*']\ngateways: [g]\n{ROUTE}",
    "what follows a gateway without namespace": f"hosts: [a]\ngateways: [mesh, 'not a gate']\n{ROUTE}",
    "a wildcard destination": http("route: [{destination: {host: '*.a.com'}}]"),
    "a sole destination of weight 0": http("route: [{destination: {host: a}, weight: 0}]"),
    "an empty subset": http("route: [{destination: {host: a, subset: ''}}]"),
    "port 0 of a match": matching("port: 0"),
    "an empty prefix of a uri": matching("uri: {prefix: ''}"),
    "* of withoutHeaders": matching("withoutHeaders: {a: {regex: '*'}}"),
    "a comma in the name of a header": matching("headers: {'a,b': {exact: c}}"),
    "a claim at a gateway": matching("headers: {'@request.auth.claims[sub]': {exact: c}}") + "\ngateways: [g]",
    "Host of a request": routed("headers: {request: {set: {Host: a.com}}}"),
    "operators": routed("headers: {request: {add: {a: '100%% %REQ(b)% %START_TIME(%s)%'}}}"),
    "a delay of nothing": routed("fault: {delay: {}}"),
    "a tiny share of a mirror": routed("mirror: {host: b}\nmirrorPercentage: {value: 0.00001}"),
    "backoff beside attempts 0": routed("retries: {attempts: 0, backoff: 1s}"),
    "a status as condition": routed("retries: {attempts: 1, retryOn: '5xx,503'}"),
    "a redirect of 305": http("redirect: {uri: /, redirectCode: 305}"),
    "a redirect to port 0": http("redirect: {port: 0}"),
    "uri '' beside a regex": routed("rewrite: {uri: '', uriRegexRewrite: {match: a, rewrite: b}}"),
    "a group that the regex lacks": routed(r"rewrite: {uriRegexRewrite: {match: a, rewrite: '\1'}}"),
    "a direct response of 600": http("directResponse: {status: 600}"),
    "a delegating rule with mirror and mirrors": http(
        "delegate: {name: a}\nmirror: {host: b}\nmirrors: [{destination: {host: c}}]"
    ),
    "any sourceSubnet": "hosts: [a]\ntcp:\n- match: [{sourceSubnet: anything}]\n  route: [{destination: {host: a}}]",
    "server names of a proxy's own at a gateway": (
        "hosts: ['*.com']\ngateways: [g]\ntls:\n- match: [{sniHosts: [outbound_.80_._.a.b.com]}]\n"
        "  route: [{destination: {host: a}}]"
    ),
    "an address as server name": (
        "hosts: [a.com]\ntls:\n- match: [{sniHosts: [10.0.0.1]}]\n  route: [{destination: {host: a}}]"
    ),
    "null for what is not set": routed("timeout: null\nretries: null\nmatch: null"),
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what: str) -> None:
    assert_accepted(document("VirtualService", ACCEPTED[what]))


def test_rules_are_needed() -> None:
    (problem,) = errors(document("VirtualService", "hosts: [a]"))
    assert (problem.code, problem.path) == ("no-rules", "spec")


def test_hosts_that_name_none_are_warned_about() -> None:
    (problem,) = load_text(document("VirtualService", f"hosts:\n{ROUTE}")).problems
    assert (problem.code, problem.severity, problem.path) == ("no-hosts", Severity.WARNING, "spec.hosts")
    assert "leave it out of a delegate" in problem.hint


def test_every_mistake_of_a_rule_is_told_at_once() -> None:
    spec = http("match: [{port: 70000}]\nredirect: {scheme: ftp, redirectCode: 200}\ntimeout: 0s")
    assert {p.path for p in errors(document("VirtualService", spec))} == {
        "spec.http[0].match[0].port",
        "spec.http[0].timeout",
    }
    spec = http("match: [{uri: {regex: (}}]\nredirect: {scheme: ftp, redirectCode: 200}")
    assert {p.path for p in errors(document("VirtualService", spec))} == {
        "spec.http[0].match[0].uri.regex",
        "spec.http[0].redirect.scheme",
        "spec.http[0].redirect.redirectCode",
    }
