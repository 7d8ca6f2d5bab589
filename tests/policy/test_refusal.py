"""What a server answers in place of its application, over HTTP and over gRPC."""

from __future__ import annotations

import pytest

from meshlib.policy.refusal import Refusal


@pytest.mark.parametrize(("status", "grpc"), [(403, 7), (401, 16), (429, 14), (503, 14), (418, 2), (500, 2)])
def test_a_grpc_caller_gets_the_status_of_envoys_map(status, grpc):
    assert Refusal(status).grpc == grpc


@pytest.mark.parametrize("grpc", [0, 8, 14])
def test_unless_another_is_named(grpc):
    assert Refusal(429, grpc_status=grpc).grpc == grpc


def test_a_refusal_is_a_value():
    assert Refusal(403) == Refusal(403, "", None, "", "")
    with pytest.raises(AttributeError):
        Refusal(403).status = 200
