"""All upstreams of a test: where they are, and how they end."""

from __future__ import annotations

import threading

import httpx
import pytest

from meshlib.testing import FakeClock, Upstreams


def test_endpoints_are_by_host_and_subset(upstreams):
    one, two = upstreams.http("reviews", "v1"), upstreams.http("reviews", "v1")
    other, ratings = upstreams.http("reviews", "v2"), upstreams.http("ratings")
    assert upstreams.endpoints == {
        "reviews": {"v1": [one.address, two.address], "v2": [other.address]},
        "ratings": [ratings.address],
    }


def test_a_host_has_subsets_or_none(upstreams):
    upstreams.http("reviews", "v1")
    upstreams.http("reviews")
    with pytest.raises(ValueError, match="reviews has upstreams with a subset and others without one"):
        _ = upstreams.endpoints


def test_they_end_whatever_state_they_are_in_and_leave_no_thread():
    before = set(threading.enumerate())
    with Upstreams(FakeClock()) as made:
        reviews = made.http("reviews")
        reviews.respond(gate=reviews.gate())
        made.http("ratings").stop()
        raised: list[Exception] = []

        def held() -> None:
            try:
                httpx.get(f"http://{reviews.address}/", trust_env=False)
            except httpx.HTTPError as error:
                raised.append(error)

        caller = threading.Thread(target=held)
        caller.start()
        reviews.wait_for_requests()
    caller.join(60)
    assert [type(error) for error in raised] == [httpx.ReadError]
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="the upstreams are closed"):
        reviews.stop()
