"""meshlib_fastapi: limit(), by caller, key and header."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from meshlib_fastapi import limit

from meshlib.testing import as_caller
from tests.support.callers import OPS, TOKEN, WEB


class TestLimit:
    def test_each_caller_has_its_own_and_is_told_when_to_come_again(self, app, served):
        @app.get("/", dependencies=[limit("2/minute")])
        async def handler() -> str:
            return ""

        ops, web = (TestClient(as_caller(app, principal=p)) for p in (OPS, WEB))
        assert [ops.get("/").status_code for _ in range(3)] == [200, 200, 429]
        refused = ops.get("/")
        assert (refused.json(), refused.headers["retry-after"]) == ({"detail": "local_rate_limited"}, "30")
        assert web.get("/").status_code == 200
        served.mesh._core.clock.advance(30.0)
        assert [ops.get("/").status_code for _ in range(2)] == [200, 429]
        assert ("429", "RL") in served.counted()

    @pytest.mark.parametrize(
        ("key", "alike", "other"),
        [
            ("caller", {"principal": OPS}, {"principal": WEB}),
            ("caller", {"claims": TOKEN}, {"claims": {**TOKEN, "sub": "bob"}}),
            ("caller", {"source_ip": "10.0.0.1"}, {"source_ip": "10.0.0.2"}),
            ("principal", {"principal": OPS}, {"principal": WEB}),
            ("request_principal", {"claims": TOKEN}, {"claims": {**TOKEN, "sub": "bob"}}),
            ("source_ip", {"source_ip": "10.0.0.1"}, {"source_ip": "10.0.0.2"}),
            ("remote_ip", {"source_ip": "10.0.0.1"}, {"source_ip": "10.0.0.2"}),
            (lambda request: request.principal[-3:], {"principal": OPS}, {"principal": WEB}),
        ],
    )
    def test_by_a_key(self, app, key, alike, other):
        @app.get("/", dependencies=[limit("1/hour", key=key)])
        async def handler() -> str:
            return ""

        def get(caller):
            return TestClient(as_caller(app, **caller)).get("/").status_code

        assert [get(alike), get(alike), get(other)] == [200, 429, 200]

    def test_x_forwarded_for_makes_nobody_another_caller(self, app):
        @app.get("/", dependencies=[limit("1/hour")])
        async def handler() -> str:
            return ""

        client = TestClient(app)
        statuses = [client.get("/", headers={"x-forwarded-for": f"10.0.0.{n}"}).status_code for n in range(3)]
        assert statuses == [200, 429, 429]

    def test_by_a_header_and_of_all(self, app):
        @app.get("/header", dependencies=[limit("1/hour", key="header:X-Tenant")])
        @app.get("/all", dependencies=[limit("1/hour", key="all")])
        async def handler() -> str:
            return ""

        client = TestClient(app)
        tenants = [client.get("/header", headers={"x-tenant": t}).status_code for t in ("a", "b", "a")]
        assert tenants == [200, 200, 429]
        assert [TestClient(as_caller(app, principal=p)).get("/all").status_code for p in (OPS, WEB)] == [200, 429]

    def test_routes_share_a_limit_that_is_the_same_object(self, app):
        shared = limit("1/hour")

        @app.get("/a", dependencies=[shared])
        @app.get("/b", dependencies=[shared])
        async def handler() -> str:
            return ""

        client = TestClient(app)
        assert [client.get(path).status_code for path in ("/a", "/b")] == [200, 429]

    @pytest.mark.parametrize("key", ["ip", "header:", ""])
    def test_what_is_no_key_is_told_where_it_is_written(self, key):
        with pytest.raises(ValueError, match="is not a valid key"):
            limit("1/second", key=key)
        with pytest.raises(ValueError, match="is not a valid rate"):
            limit("often")
