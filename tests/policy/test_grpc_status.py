"""Envoy's maps between statuses of gRPC and of HTTP."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.grpc_status import NAMES, NUMBERS, grpc_of_http, http_of_grpc


@pytest.mark.parametrize(
    ("http", "grpc"), [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (418, 2)]
)
def test_http_statuses_map_to_grpc_as_in_envoy(http, grpc):
    assert grpc_of_http(http) == grpc


@pytest.mark.parametrize(
    ("name", "number", "http"),
    [
        ("OK", 0, 200),
        ("CANCELLED", 1, 499),
        ("UNKNOWN", 2, 500),
        ("INVALID_ARGUMENT", 3, 400),
        ("DEADLINE_EXCEEDED", 4, 504),
        ("NOT_FOUND", 5, 404),
        ("ALREADY_EXISTS", 6, 409),
        ("PERMISSION_DENIED", 7, 403),
        ("RESOURCE_EXHAUSTED", 8, 429),
        ("FAILED_PRECONDITION", 9, 400),
        ("ABORTED", 10, 409),
        ("OUT_OF_RANGE", 11, 400),
        ("UNIMPLEMENTED", 12, 501),
        ("INTERNAL", 13, 500),
        ("UNAVAILABLE", 14, 503),
        ("DATA_LOSS", 15, 500),
        ("UNAUTHENTICATED", 16, 401),
    ],
)
def test_names_and_numbers_are_grpcs_and_statuses_envoys(name, number, http):
    assert (NAMES[number], NUMBERS[name], http_of_grpc(number)) == (name, number, http)
    assert getattr(grpc.StatusCode, name).value[0] == number


@given(st.integers())
def test_no_number_is_without_a_status(number):
    assert 200 <= http_of_grpc(number) < 600
    assert 0 <= grpc_of_http(number) < len(NAMES)
    if not 0 <= number < len(NAMES):
        assert http_of_grpc(number) == 500


def test_a_status_that_stands_for_nothing_else_is_unknown():
    assert [grpc_of_http(status) for status in (200, 302, 405, 500, 599)] == [2] * 5
