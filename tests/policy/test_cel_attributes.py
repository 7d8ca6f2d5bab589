"""The attributes that expressions may read."""

import pytest

from meshlib.policy.cel_attributes import ATTRIBUTES, unknown_attribute
from meshlib.policy.cel_syntax import cel_references


@pytest.mark.parametrize(
    "expression",
    [
        "response.code >= 400 || xds.cluster_name == 'BlackHoleCluster'",
        "has(request.headers['x-a']) && request.url_path.startsWith('/health')",
        "request.headers.exists(k, k == 'a')",
        "connection.mtls ? connection.uri_san_peer_certificate : 'none'",
        "upstream_peer.app + filter_state['wasm.x'] + metadata.anything.at_all",
        "type(request.size) == int",
        "response",
        "true",
    ],
)
def test_what_envoy_and_istio_have_is_known(expression: str) -> None:
    assert unknown_attribute(cel_references(expression)) == ("", "")


@pytest.mark.parametrize(
    ("expression", "unknown", "known"),
    [
        ("request.pth == '/'", "request.pth", "path, protocol"),
        ("tenant", "tenant", "'tenant'"),
        ("response.code > 1 && respons.code > 1", "respons", "an attribute begins with request, response"),
    ],
)
def test_what_they_do_not_have_is_named_with_what_they_have(expression: str, unknown: str, known: str) -> None:
    found, hint = unknown_attribute(cel_references(expression))
    assert found == unknown
    assert known in hint


def test_every_attribute_is_a_name_of_cel() -> None:
    assert all(name.isidentifier() for root, fields in ATTRIBUTES.items() for name in (root, *fields))
