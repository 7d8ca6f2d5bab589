"""The mesh host that a gRPC target names."""

from __future__ import annotations

import pytest

from meshlib.errors import MeshError
from meshlib.transport.grpcio.client.dialer import authority_of


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("ratings:9080", "ratings:9080"),
        ("ratings", "ratings"),
        ("dns:///ratings:9080", "ratings:9080"),
        ("dns://8.8.8.8/ratings:9080", "ratings:9080"),
        ("dns:ratings:9080", "ratings:9080"),
        ("passthrough:///ratings:9080", "ratings:9080"),
        ("ipv4:127.0.0.1:9080", "127.0.0.1:9080"),
        ("[::1]:9080", "[::1]:9080"),
    ],
)
def test_a_target_names_a_host(target, host):
    assert authority_of(target) == host


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("unix:/tmp/socket", "a socket of this machine"),
        ("unix-abstract:name", "a socket of this machine"),
        ("ratings:http", "'http' in 'ratings:http' is not a port"),
        ("", "needs the host to call"),
    ],
)
def test_a_target_that_names_none_is_refused_with_the_remedy(target, words):
    with pytest.raises(MeshError, match=words):
        authority_of(target)
