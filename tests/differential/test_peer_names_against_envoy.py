"""subjectAltNames through a real Envoy: the same certificates are accepted, but for those where we are stricter on purpose."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import pytest

from meshlib.policy.peer_names import DNS, URI, allows, type_of
from tests.differential.envoy_process import TYPES, cluster, envoy, require_envoy
from tests.mesh.test_peer_names import DNS as DNS_TAG
from tests.mesh.test_peer_names import URI as URI_TAG
from tests.mesh.test_peer_names import Authority
from tests.support.evil_server import OK, EvilServer

pytestmark = pytest.mark.differential

SPIFFE = "spiffe://cluster.local/ns/default/sa/reviews"
PAIRS = [
    ("api.example.test", "api.example.test"),
    ("api.example.test", "API.example.TEST"),
    ("api.example.test", "*.example.test"),
    ("api.example.test", "a*i.example.test"),
    ("api.example.test", "api*.example.test"),
    ("aa.example.test", "aa*a.example.test"),
    ("api.example.test", "*.*.test"),
    ("api.example.test", "api.*.test"),
    ("api.example.test", "**.example.test"),
    ("api.example.test", "*i*.example.test"),
    ("a.b.example.test", "*.example.test"),
    ("example.test", "*.example.test"),
    ("example", "*"),
    ("xn--a.example.test", "xn--*.example.test"),
    ("xn--a.example.test", "*.example.test"),
    ("api.example.test", "api.example.test."),
    ("*.example.test", "api.example.test"),
    ("*.example.test", "*.example.test"),
]
"""An allowed DNS name, and that of the certificate."""

CASES: list[tuple[str, list[tuple[int, str]]]] = [
    *((allowed, [(DNS_TAG, name)]) for allowed, name in PAIRS),
    (SPIFFE, [(URI_TAG, SPIFFE)]),
    (SPIFFE, [(URI_TAG, SPIFFE + "/")]),
    (SPIFFE, [(URI_TAG, SPIFFE.upper())]),
    (SPIFFE, [(DNS_TAG, SPIFFE)]),
    ("api.example.test", [(URI_TAG, "api.example.test")]),
    ("api.example.test", [(DNS_TAG, "other.test"), (DNS_TAG, "*.example.test")]),
    (SPIFFE, [(URI_TAG, SPIFFE), (URI_TAG, "spiffe://cluster.local/ns/default/sa/other")]),
]
STRICTER = {len(CASES) - 1}
"""Several URIs: no SPIFFE identity."""


def test_the_same_certificates_are_accepted(tmp_path):
    require_envoy()
    authority = Authority()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    kinds = {DNS_TAG: DNS, URI_TAG: URI}
    with contextlib.ExitStack() as stack:
        clusters, routes, ours = [], [], []
        for number, (allowed, names) in enumerate(CASES):
            context: ssl.SSLContext = authority.server(tmp_path, *[(tag, name.encode()) for tag, name in names])
            server = stack.enter_context(EvilServer([OK], tls=context))
            matcher = {"san_type": "URI" if type_of(allowed) == URI else "DNS", "matcher": {"exact": allowed}}
            validation: dict[str, Any] = {
                "trusted_ca": {"filename": str(ca)},
                "match_typed_subject_alt_names": [matcher],
            }
            tls = {
                "@type": f"{TYPES.removesuffix('.filters')}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"validation_context": validation},
            }
            clusters.append(
                cluster(
                    f"c{number}",
                    [server.port],
                    transport_socket={"name": "envoy.transport_sockets.tls", "typed_config": tls},
                )
            )
            routes.append({"match": {"path": f"/{number}"}, "route": {"cluster": f"c{number}"}})
            ours.append(allows([allowed], [(kinds[tag], name) for tag, name in names]))
        client = stack.enter_context(envoy(routes, clusters))
        theirs = [client.get(f"/{number}").status_code == 200 for number in range(len(CASES))]
    different = {number for number in range(len(CASES)) if ours[number] != theirs[number]}
    assert different == STRICTER, [(CASES[number], ours[number]) for number in different]
    assert all(theirs[number] for number in STRICTER)
