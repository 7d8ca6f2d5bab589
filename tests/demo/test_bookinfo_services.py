"""What the four services answer, to people and to programs."""

from __future__ import annotations

import httpx
import pytest

from meshlib.demo.bookinfo.services import ratings
from meshlib.demo.bookinfo.services.headers import forwarded
from tests.demo.bookinfo_apps import bookinfo

API = "/api/v1/products/0"


@pytest.mark.parametrize(("version", "stars"), [("v2", "black"), ("v3", "red")])
async def test_the_page_shows_the_stars_in_the_color_of_the_version(version: str, stars: str) -> None:
    browser, _ = bookinfo(version)
    page = (await browser.get("/productpage")).text
    assert f'aria-label="5 of 5 {stars} stars"' in page
    assert f'aria-label="4 of 5 {stars} stars"' in page
    assert f"reviews-{version}-1" in page


async def test_the_page_of_v1_has_reviews_and_no_stars_and_does_not_ask_ratings() -> None:
    browser, wires = bookinfo("v1")
    page = (await browser.get("/productpage")).text
    assert "Reviewer1" in page
    assert 'class="stars' not in page
    assert "ratings" not in [r.url.host for r in wires.seen]


async def test_the_page_needs_nothing_from_outside() -> None:
    browser, _ = bookinfo()
    page = (await browser.get("/productpage")).text
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


async def test_lost_reviews_leave_a_page_that_says_so_with_the_reason() -> None:
    browser, wires = bookinfo()
    wires.failing["reviews"] = httpx.Response(503, text="no healthy upstream")
    answer = await browser.get("/productpage")
    assert answer.status_code == 200
    assert "Product reviews are currently unavailable for this book." in answer.text
    assert "no healthy upstream" in answer.text
    assert "William Shakespeare" in answer.text


async def test_lost_details_leave_the_reviews() -> None:
    browser, wires = bookinfo()
    wires.failing["details"] = httpx.ConnectError("refused")
    page = (await browser.get("/productpage")).text
    assert "Product details are currently unavailable." in page
    assert "refused" in page
    assert "Reviewer1" in page


async def test_lost_ratings_leave_the_reviews_without_stars() -> None:
    browser, wires = bookinfo("v3")
    wires.failing["ratings"] = httpx.ReadTimeout("too slow")
    page = (await browser.get("/productpage")).text
    assert "Ratings service is currently unavailable" in page
    assert "Reviewer2" in page
    assert 'class="stars' not in page


async def test_reviews_are_asked_a_second_time_and_details_are_not() -> None:
    browser, wires = bookinfo()
    wires.failing["reviews"] = httpx.Response(500, text="no")
    wires.failing["details"] = httpx.Response(500, text="no")
    await browser.get("/productpage")
    assert [r.url.host for r in wires.seen].count("reviews") == 2
    assert [r.url.host for r in wires.seen].count("details") == 1


async def test_patience_is_3_s_for_reviews_and_10_s_or_2_5_s_for_ratings() -> None:
    for version, patience in (("v2", 10.0), ("v3", 2.5)):
        browser, wires = bookinfo(version)
        await browser.get("/productpage")
        timeouts = {r.url.host: r.extensions["timeout"]["read"] for r in wires.seen}
        assert timeouts == {"details": 3.0, "reviews": 3.0, "ratings": patience}


async def test_signing_in_sends_end_user_on_every_hop() -> None:
    browser, wires = bookinfo("v2")
    answer = await browser.post("/login", data={"username": "jason"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/productpage")
    assert "Signed in as <b>jason</b>" in (await browser.get("/productpage")).text
    assert {h: wires.headers_to(h)["end-user"] for h in ("details", "reviews", "ratings")} == {
        "details": "jason",
        "reviews": "jason",
        "ratings": "jason",
    }
    await browser.post("/logout")
    assert "Sign in" in (await browser.get("/productpage")).text


@pytest.mark.parametrize("name", ["", "a b", "jason\r\nx-admin: 1", "<script>", "é", "x" * 41])
async def test_a_user_name_that_is_no_header_value_is_refused(name: str) -> None:
    browser, _ = bookinfo()
    assert (await browser.post("/login", data={"username": name})).status_code == 400


async def test_a_forged_cookie_does_not_become_a_header() -> None:
    browser, wires = bookinfo("v1")
    await browser.get("/productpage", headers={"cookie": "bookinfo-user=a b"})
    assert "end-user" not in wires.headers_to("reviews")


async def test_a_login_body_beyond_4_kb_is_refused() -> None:
    browser, _ = bookinfo()
    assert (await browser.post("/login", content=b"username=" + b"x" * 5000)).status_code == 413


async def test_what_services_answer_is_escaped_on_the_page() -> None:
    browser, wires = bookinfo()
    wires.failing["reviews"] = httpx.Response(500, text="<script>alert(1)</script>")
    page = (await browser.get("/productpage")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


async def test_trace_and_user_agent_headers_reach_the_last_hop() -> None:
    browser, wires = bookinfo("v2")
    trace = {"x-request-id": "r1", "traceparent": "00-1-2-01", "x-b3-traceid": "b", "user-agent": "me/1"}
    await browser.get("/productpage", headers={**trace, "x-secret": "s"})
    last = wires.headers_to("ratings")
    assert {name: last.get(name) for name in trace} == trace
    assert "x-secret" not in last


def test_the_signed_in_user_replaces_an_incoming_end_user() -> None:
    assert forwarded({"end-user": "mallory"}, "jason") == {"end-user": "jason"}


async def test_the_api_gives_reviews_with_the_calls_that_led_to_them() -> None:
    browser, _ = bookinfo("v3")
    body = (await browser.get(f"{API}/reviews")).json()
    assert body["version"] == "v3"
    assert body["reviews"][0]["rating"] == {"stars": 5, "color": "red"}
    assert [(c["service"], c["status"]) for c in body["calls"]] == [("reviews", 200)]


async def test_the_api_passes_on_the_status_of_a_failed_service_and_500_for_none() -> None:
    browser, wires = bookinfo()
    wires.failing["details"] = httpx.Response(555, text="fault filter abort")
    wires.failing["ratings"] = httpx.ConnectError("refused")
    details, stars = await browser.get(API), await browser.get(f"{API}/ratings")
    assert (details.status_code, details.json()["calls"][0]["error"]) == (555, "fault filter abort")
    assert (stars.status_code, stars.json()["calls"][0]["status"]) == (500, 0)


async def test_an_answer_that_is_not_json_counts_as_a_failure() -> None:
    browser, wires = bookinfo()
    wires.failing["reviews"] = httpx.Response(200, text="<html>")
    answer = await browser.get(f"{API}/reviews")
    assert answer.status_code == 500
    assert "not JSON" in answer.json()["calls"][-1]["error"]


async def test_the_failing_switch_fails_calls_but_not_health() -> None:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(ratings.create_app()), base_url="http://ratings")
    assert (await client.post("/admin/fail", params={"mode": "5xx"})).json() == {"mode": "5xx"}
    assert (await client.get("/ratings/0")).status_code == 503
    assert (await client.get("/health")).status_code == 200
    await client.post("/admin/fail", params={"mode": "none"})
    assert (await client.get("/ratings/0")).json()["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}


async def test_the_failing_switch_refuses_unknown_modes_and_get() -> None:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(ratings.create_app()), base_url="http://ratings")
    assert (await client.post("/admin/fail", params={"mode": "sideways"})).status_code == 400
    assert (await client.get("/admin/fail", params={"mode": "5xx"})).status_code == 405
    assert (await client.get("/ratings/0")).status_code == 200
