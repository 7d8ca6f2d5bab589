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


def test_its_body_is_text_or_bytes():
    assert (Refusal(403, "no").content, Refusal(403, "no").text) == (b"no", "no")
    assert (Refusal(403, b"no\xff").content, Refusal(403, b"no\xff").text) == (b"no\xff", "no\ufffd")


def test_its_headers_say_how_long_the_body_is_and_that_it_is_text():
    assert Refusal(403, "no").http_headers() == [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    assert Refusal(429, headers=((b"retry-after", b"1"),)).http_headers() == [
        (b"retry-after", b"1"),
        (b"content-length", b"0"),
    ]


def test_unless_one_of_its_own_names_another_type():
    found = Refusal(403, b"{}", headers=((b"Content-Type", b"application/json"),)).http_headers()
    assert found == [(b"Content-Type", b"application/json"), (b"content-length", b"2")]
