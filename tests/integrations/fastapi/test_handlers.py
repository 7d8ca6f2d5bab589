"""meshlib_fastapi: what handlers get of the mesh by asking for it."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from meshlib_fastapi import Caller, Claims, MeshClient

from meshlib.problems import MeshError
from meshlib.testing import as_caller
from tests.support.callers import OPS, TOKEN


class TestWhatHandlersAskFor:
    @pytest.fixture
    def client(self, app):
        @app.get("/whoami")
        async def whoami(caller: Caller, claims: Claims):
            return {
                "caller": caller,
                "namespace": caller.namespace,
                "account": caller.service_account,
                "domain": caller.trust_domain,
                "claims": dict(claims),
            }

        @app.get("/sync")
        def sync(caller: Caller) -> str:
            return caller

        return lambda **caller: TestClient(as_caller(app, **caller))

    def test_the_caller_with_its_identity(self, client):
        assert client(principal=OPS).get("/whoami").json() == {
            "caller": f"spiffe://{OPS}",
            "namespace": "default",
            "account": "ops",
            "domain": "cluster.local",
            "claims": {},
        }

    def test_a_caller_without_one_is_nobody(self, client, app):
        wanted = {"caller": "", "namespace": "", "account": "", "domain": "", "claims": {}}
        assert TestClient(app).get("/whoami").json() == wanted
        headers = {"x-forwarded-client-cert": f"URI=spiffe://{OPS}", "x-meshlib-principal": OPS}
        assert TestClient(app).get("/whoami", headers=headers).json() == wanted

    def test_the_claims_of_its_token(self, client):
        assert client(claims=TOKEN).get("/whoami").json()["claims"] == TOKEN

    def test_plain_functions_get_them_too(self, client):
        assert client(principal=OPS).get("/sync").json() == f"spiffe://{OPS}"

    def test_they_are_no_parameters_of_the_request(self, client, app):
        [operation] = [app.openapi()["paths"]["/whoami"]["get"]]
        assert "parameters" not in operation
        assert "requestBody" not in operation

    def test_the_client_of_the_mesh_is_one_an_application(self, app):
        seen = []

        @app.get("/")
        async def handler(client: MeshClient) -> bool:
            seen.append(client)
            return isinstance(client, httpx.AsyncClient)

        with TestClient(app) as client:
            assert client.get("/").json() is True
            client.get("/")
            assert seen[0] is seen[1]
            assert not seen[0].is_closed
        assert seen[0].is_closed

    def test_an_application_without_the_extension_is_told(self):
        app = FastAPI()

        @app.get("/")
        async def handler(caller: Caller) -> str:
            return caller

        @app.get("/client")
        async def other(client: MeshClient) -> str:
            return ""

        for path in ("/", "/client"):
            with pytest.raises(MeshError, match="MeshExtension"):
                TestClient(app).get(path)

    def test_a_mounted_application_has_the_mesh_of_the_one_around_it(self, app):
        sub = FastAPI()

        @sub.get("/whoami")
        async def whoami(caller: Caller, client: MeshClient) -> str:
            return caller

        app.mount("/sub", sub)
        assert TestClient(as_caller(app, principal=OPS)).get("/sub/whoami").json() == f"spiffe://{OPS}"


def test_dependencies_are_overridden_as_fastapi_has_it(app):
    def other() -> str:
        return "other"

    @app.get("/")
    async def handler(value: Annotated[str, Depends(lambda: "x")], caller: Caller) -> str:
        return caller

    from meshlib_fastapi.dependencies import current_caller

    app.dependency_overrides[current_caller] = other
    assert TestClient(app).get("/").json() == "other"
