"""What upstreams of all protocols have in common."""

from __future__ import annotations


def test_its_name_and_address(upstreams):
    reviews, ratings = upstreams.http("reviews", "v1"), upstreams.http("ratings")
    assert (reviews.name, ratings.name) == ("reviews/v1", "ratings")
    assert reviews.address == f"127.0.0.1:{reviews.port}"
    assert repr(ratings) == f"<HttpUpstream ratings at {ratings.address}: 0 requests>"


def test_stopping_and_starting_it_twice_is_once(upstreams):
    reviews = upstreams.http("reviews")
    assert reviews.stop().stop().start().start() is reviews
