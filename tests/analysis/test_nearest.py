"""Did you mean?"""

from __future__ import annotations

from meshlib.analysis.nearest import FEW, Nearest


def test_the_nearest_of_a_few_names():
    names = Nearest(["reviews", "ratings", "details"])
    assert names.of("reviws") == "reviews"
    assert names.of("rating") == "ratings"
    assert names.of("productpage") == ""
    assert Nearest([]).of("a") == ""


def test_among_many_names_a_slip_is_found_without_comparing_all():
    names = Nearest([f"service-{number}.shop" for number in range(FEW * 4)] + ["reviews.shop"])
    for slip in ("revews.shop", "reviewss.shop", "rewiews.shop", "reveiws.shop", "reviews.shp"):
        assert names.of(slip) == "reviews.shop"
    assert names.of("something-else.example") == ""
