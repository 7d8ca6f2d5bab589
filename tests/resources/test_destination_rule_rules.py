"""What istiod's webhook refuses of a DestinationRule is refused at its own line; what it lets pass loads."""

from __future__ import annotations

import pytest

from tests.support.marked_lines import assert_accepted, assert_refused, document


def policy(setting: str) -> str:
    return f"host: reviews\ntrafficPolicy:\n  {setting}"


def balancer(setting: str) -> str:
    return policy(f"loadBalancer:\n    {setting}")


REFUSED = [
    ("a host with an underscore", "host: a_b  # here", "bad-host", "not a DNS label"),
    ("an address", "host: 10.0.0.1  # here", "bad-host", "only digits"),
    ("a policy of nothing", "host: a\ntrafficPolicy: {}  # here", "empty-policy", "sets nothing"),
    ("one subset twice", "host: a\nsubsets:\n- name: v1\n- name: v1  # here", "duplicate-subset", "v1"),
    ("a subset without name", "host: a\nsubsets:\n- labels: {app: a}  # here", "missing-field", "name"),
    ("a label of no value", "host: a\nsubsets: [{name: v1, labels: {version: a/b}}]  # here", "bad-label", "a/b"),
    (
        "a policy of nothing of a subset",
        "host: a\nsubsets: [{name: v1, trafficPolicy: {tls: null}}]  # here",
        "empty-policy",
        "leave it out",
    ),
    # workloadSelector and exportTo
    (
        "a wildcard of the selector",
        "host: a\nworkloadSelector: {matchLabels: {app: '*'}}  # here",
        "wildcard-label",
        "compared as they are",
    ),
    (
        "a selector for another namespace",
        "host: a\nworkloadSelector: {matchLabels: {app: a}}\nexportTo: [other]  # here",
        "export-of-selector",
        'exportTo: ["."]',
    ),
    ("an export to nobody", "host: a\nexportTo: ['~']  # here", "bad-export", "ServiceEntry"),
    # connectionPool
    ("a pool of nothing", policy("connectionPool: {}  # here"), "empty-pool", "http or tcp"),
    ("-1 connections", policy("connectionPool: {tcp: {maxConnections: -1}}  # here"), "negative", "-1"),
    ("an idle timeout of -1s", policy("connectionPool: {tcp: {idleTimeout: -1s}}  # here"), "duration-too-short", "1ms"),
    ("an http idle timeout of 0s", policy("connectionPool: {http: {idleTimeout: 0s}}  # here"), "duration-too-short", "1ms"),
    (
        "upgrades and the client's own protocol",
        policy("connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}  # here"),
        "client-protocol-and-upgrade",
        "keep one",
    ),
    (
        "keep-alive without a timeout",
        policy("connectionPool: {http: {http2KeepAlive: {interval: 1s}}}  # here"),
        "missing-field",
        "timeout",
    ),
    # outlierDetection
    ("an interval of 0s", policy("outlierDetection: {interval: 0s}  # here"), "duration-too-short", "1ms"),
    ("a health of 101 percent", policy("outlierDetection: {minHealthPercent: 101}  # here"), "bad-percent", "0..100"),
    (
        "local failures that are not split",
        policy("outlierDetection: {consecutiveLocalOriginFailures: 3}  # here"),
        "local-origin-not-split",
        "splitExternalLocalOriginErrors",
    ),
    # loadBalancer
    ("a cookie without name", balancer("consistentHash: {httpCookie: {name: '', ttl: 1s}}  # here"), "hash-key", "name"),
    (
        "an attribute twice",
        balancer("consistentHash: {httpCookie: {name: a, attributes: [{name: b}, {name: b}]}}  # here"),
        "duplicate-attribute",
        "b is there twice",
    ),
    (
        "two sizes of a ring",
        balancer("consistentHash: {useSourceIp: true, minimumRingSize: 9, ringHash: {}}  # here"),
        "several-hashes",
        "ringHash",
    ),
    ("a table of no size", balancer("consistentHash: {maglev: {tableSize: 0}}  # here"), "maglev-size", "65537"),
    ("a table of a composite", balancer("consistentHash: {maglev: {tableSize: 65535}}  # here"), "maglev-size", "prime"),
    ("a table too large", balancer("consistentHash: {maglev: {tableSize: 5000011}}  # here"), "maglev-size", "below 5000011"),
    ("a warm-up without duration", balancer("warmup: {minimumPercent: 5}  # here"), "missing-field", "duration"),
    ("a warm-up that does not grow", balancer("warmup: {duration: 1s, aggression: 0}  # here"), "bad-aggression", "greater"),
    (
        "two settings of localities",
        balancer("{localityLbSetting: {enabled: true}, zoneAwareLbSetting: {enabled: true}}  # here"),
        "several-localities",
        "either",
    ),
    (
        "shares of 90 in all",
        balancer("localityLbSetting: {distribute: [{from: a, to: {a/*: 90}}]}  # here"),
        "locality-weights",
        "90",
    ),
    (
        "a share of 0",
        balancer("localityLbSetting: {distribute: [{from: a, to: {a/*: 100, b/*: 0}}]}  # here"),
        "locality-weights",
        "1..100 each",
    ),
    (
        "shares of overlapping places",
        balancer("localityLbSetting: {distribute: [{from: a, to: {a/*: 50, a/b: 50}}]}  # here"),
        "locality-overlap",
        "a/b",
    ),
    (
        "a wildcard in the middle",
        balancer("localityLbSetting: {distribute: [{from: a, to: {a/*/b: 100}}]}  # here"),
        "bad-locality",
        "at its end",
    ),
    (
        "an empty region",
        balancer("localityLbSetting: {distribute: [{from: /a, to: {a: 100}}]}  # here"),
        "bad-locality",
        "empty part",
    ),
    (
        "distribute and failover",
        balancer("localityLbSetting: {distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]}  # here"),
        "several-localities",
        "either distribute or failover",
    ),
    ("failover to itself", balancer("localityLbSetting: {failover: [{from: a, to: a}]}  # here"), "failover-to-itself", "a"),
    ("failover to a zone", balancer("localityLbSetting: {failover: [{from: a, to: b/c}]}  # here"), "failover-region", "b/c"),
    (
        "failover by region twice",
        balancer(
            "localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/region]}  # here"
        ),
        "several-localities",
        "labels of the topology",
    ),
    (
        "zone aware failover by zones",
        balancer("zoneAwareLbSetting: {failoverPriority: [topology.kubernetes.io/zone]}  # here"),
        "failover-label",
        "zone",
    ),
    # tls
    ("MUTUAL without key", policy("tls: {mode: MUTUAL, clientCertificate: /a}  # here"), "tls-files", "privateKey"),
    (
        "a credential and a file",
        policy("tls: {mode: SIMPLE, credentialName: a, caCertificates: /a}  # here"),
        "tls-files",
        "caCertificates",
    ),
    (
        "names that are not verified",
        policy("tls: {mode: MUTUAL, credentialName: a, insecureSkipVerify: true, subjectAltNames: [a]}  # here"),
        "tls-skip-verify",
        "subjectAltNames",
    ),
    (
        "a credential that is not verified",
        policy("tls: {mode: SIMPLE, credentialName: a, insecureSkipVerify: true}  # here"),
        "tls-skip-verify",
        "credentialName",
    ),
    (
        "a ConfigMap elsewhere",
        policy("tls: {mode: SIMPLE, credentialName: 'configmap://other/ca'}  # here"),
        "bad-credential",
        "configmap://shop/ca",
    ),
    (
        "a ConfigMap without name",
        policy("tls: {mode: SIMPLE, credentialName: 'configmap://shop'}  # here"),
        "bad-credential",
        "names no ConfigMap",
    ),
    # ports, tunnel, proxyProtocol
    ("a port's settings of nothing", policy("portLevelSettings: [{port: {number: 80}}]  # here"), "empty-policy", "port"),
    (
        "settings of no port",
        policy("portLevelSettings: [{tls: {mode: DISABLE}}]  # here"),
        "missing-field",
        "port: {number: 80}",
    ),
    ("a tunnel by GET", policy("tunnel: {protocol: GET, targetHost: a, targetPort: 1}  # here"), "bad-enum", "CONNECT"),
    ("a tunnel to a space", policy("tunnel: {targetHost: a b, targetPort: 1}  # here"), "bad-host", "neither"),
    ("a tunnel to port 0", policy("tunnel: {targetHost: a, targetPort: 0}  # here"), "bad-port", "1..65535"),
    (
        "a tunnel and proxyProtocol",
        policy("{tunnel: {targetHost: a, targetPort: 1}, proxyProtocol: {version: V1}}  # here"),
        "tunnel-and-proxy-protocol",
        "exclude each other",
    ),
    ("version 3 of proxyProtocol", policy("proxyProtocol: {version: V3}  # here"), "bad-enum", "V1, V2"),
    # what istiod reads and the API server refuses
    ("two balancers", balancer("{simple: RANDOM, consistentHash: {useSourceIp: true}}  # here"), "crd-one-of", "simple"),
    ("a balancer of number 99", balancer("simple: 99  # here"), "crd-enum", "LEAST_REQUEST"),
    ("a balancer of number '2'", balancer("simple: '2'  # here"), "bad-enum", "LEAST_REQUEST"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "words"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED])
def test_refused_at_its_line(spec: str, code: str, words: str) -> None:
    assert_refused(document("DestinationRule", spec), code, words)


ACCEPTED = {
    "the host *": "host: '*'",
    "a host of digits": "host: '123'",
    "an idle timeout of 0s": policy("connectionPool: {tcp: {idleTimeout: 0s}}"),
    "an idle timeout below 1 ms": policy("connectionPool: {tcp: {idleTimeout: 500us}}"),
    "a hash of nothing": balancer("consistentHash: {}"),
    "a table of 1": balancer("consistentHash: {maglev: {tableSize: 1}}"),
    "a session cookie": balancer("consistentHash: {httpCookie: {name: a, ttl: 0s}}"),
    "failover beside distribute's priorities": balancer(
        "localityLbSetting: {distribute: [{from: a, to: {a: 100}}], failoverPriority: [app]}"
    ),
    "files beside ISTIO_MUTUAL": policy("tls: {mode: ISTIO_MUTUAL, clientCertificate: /a, privateKey: /b}"),
    "what DISABLE does not verify": policy("tls: {mode: DISABLE, insecureSkipVerify: true, subjectAltNames: [a]}"),
    "a ConfigMap of its own namespace": policy("tls: {mode: SIMPLE, credentialName: 'configmap://shop/ca'}"),
    "settings of a port without number": policy("portLevelSettings: [{port: {}, tls: {mode: DISABLE}}]"),
    "a tunnel to an address": policy("tunnel: {targetHost: 10.0.0.1, targetPort: 1}"),
    "a selector for its own namespace": "host: a\nworkloadSelector: {matchLabels: {app: a}}\nexportTo: [shop]",
    "counts of outlierDetection": policy("outlierDetection: {consecutive5xxErrors: 4294967295}"),
    "a sum of durations": policy("connectionPool: {tcp: {connectTimeout: 1h1m0.5s}}"),
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what: str) -> None:
    assert_accepted(document("DestinationRule", ACCEPTED[what]))
