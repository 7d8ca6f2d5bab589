"""Envoy's maps between statuses of gRPC and of HTTP."""

from __future__ import annotations

import pytest

from meshlib.policy.grpc_status import grpc_of_http, http_of_grpc


@pytest.mark.parametrize(("http", "grpc"), [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (503, 14), (418, 2)])
def test_http_statuses_map_to_grpc_as_in_envoy(http, grpc):
    assert grpc_of_http(http) == grpc


def test_every_grpc_status_has_an_http_status():
    assert [http_of_grpc(n) for n in (0, 14, 4, 12)] == [200, 503, 504, 501]
