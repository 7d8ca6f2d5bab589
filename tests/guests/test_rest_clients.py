"""Clients of services over REST and GraphQL: Authlib, gql, qdrant-client, postgrest, elasticsearch, githubkit."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.guests.neighbourhood import BASE, neighbourhood, send_json


def behave(handler, request):
    path = request["path"].partition("?")[0]
    if path == "/token":
        return send_json(handler, {"access_token": "t1", "token_type": "Bearer", "expires_in": 3600})
    if path == "/graphql":
        if request["headers"]["content-type"].startswith("multipart/"):
            return send_json(handler, {"data": {"hello": "uploaded" if "the file" in request["body"] else "nothing"}})
        return send_json(handler, {"data": {"hello": "world"}})
    if path == "/collections":
        return send_json(handler, {"result": {"collections": [{"name": "books"}]}, "status": "ok", "time": 0.1})
    if path == "/collections/books/points":
        return send_json(handler, {"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.1})
    if path == "/people":
        return send_json(handler, [{"name": "jo"}], 201 if request["method"] == "POST" else 200)
    if path == "/books/_search":
        found = {"took": 1, "timed_out": False, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0}}
        hits = {"total": {"value": 0, "relation": "eq"}, "hits": []}
        return send_json(handler, {**found, "hits": hits}, x_elastic_product="Elasticsearch")
    if path == "/zen":
        handler.answer(200, b"keep it logical", content_type="text/plain")
        return True
    return False


@pytest.fixture
def around():
    with neighbourhood(behave) as made:
        made.refuse = 1
        yield made


# -- Authlib ----------------------------------------------------------------------------------------------------------


def test_authlib(around):
    oauth = pytest.importorskip("authlib.integrations.httpx_client", reason="make guests")
    with oauth.OAuth2Client("me", "secret", transport=around.mesh.http_transport()) as client:
        assert client.fetch_token(f"{BASE}/token")["access_token"] == "t1"
        around.obeyed(attempts=2)
        assert client.get(f"{BASE}/mine").json()["headers"]["authorization"] == "Bearer t1"
    around.obeyed()


async def test_authlib_on_asyncio(around):
    oauth = pytest.importorskip("authlib.integrations.httpx_client", reason="make guests")
    async with oauth.AsyncOAuth2Client("me", "secret", transport=around.mesh.async_http_transport()) as client:
        await client.fetch_token(f"{BASE}/token")
        assert (await client.get(f"{BASE}/mine")).json()["headers"]["authorization"] == "Bearer t1"
    around.obeyed()


# -- gql --------------------------------------------------------------------------------------------------------------


def test_gql_with_an_upload(around, tmp_path):
    gql = pytest.importorskip("gql", reason="make guests")
    transports = pytest.importorskip("gql.transport.httpx", reason="make guests")
    file = tmp_path / "a.txt"
    file.write_text("the file")
    transport = transports.HTTPXTransport(url=f"{BASE}/graphql", transport=around.mesh.http_transport())
    with gql.Client(transport=transport) as session:
        assert session.execute(gql.gql("{ hello }")) == {"hello": "world"}
        around.obeyed(attempts=2)
        upload = gql.gql("mutation ($file: Upload!) { hello(file: $file) }")
        upload.variable_values = {"file": gql.FileVar(str(file))}
        assert session.execute(upload, upload_files=True) == {"hello": "uploaded"}
    around.obeyed()


async def test_gql_on_asyncio(around):
    gql = pytest.importorskip("gql", reason="make guests")
    transports = pytest.importorskip("gql.transport.httpx", reason="make guests")
    transport = transports.HTTPXAsyncTransport(url=f"{BASE}/graphql", transport=around.mesh.async_http_transport())
    async with gql.Client(transport=transport) as session:
        assert await session.execute(gql.gql("{ hello }")) == {"hello": "world"}
    around.obeyed(attempts=2)


# -- qdrant-client ----------------------------------------------------------------------------------------------------


def test_qdrant_client(around):
    qdrant = pytest.importorskip("qdrant_client", reason="make guests")
    from qdrant_client.models import PointStruct

    client = qdrant.QdrantClient(url=BASE, transport=around.mesh.http_transport(), check_compatibility=False)
    try:
        assert [found.name for found in client.get_collections().collections] == ["books"]
        around.obeyed(attempts=2)
        client.upsert("books", [PointStruct(id=1, vector=[0.5, 0.5])])
    finally:
        client.close()
    assert json.loads(around.obeyed()["body"])["points"][0]["id"] == 1


async def test_qdrant_client_on_asyncio(around):
    qdrant = pytest.importorskip("qdrant_client", reason="make guests")
    made = around.mesh.async_http_transport()
    client = qdrant.AsyncQdrantClient(url=BASE, transport=made, check_compatibility=False)
    try:
        assert [found.name for found in (await client.get_collections()).collections] == ["books"]
    finally:
        await client.close()
    around.obeyed(attempts=2)


# -- postgrest --------------------------------------------------------------------------------------------------------


def test_postgrest(around):
    postgrest = pytest.importorskip("postgrest", reason="make guests")
    http = around.mesh.client(base_url=BASE)
    with postgrest.SyncPostgrestClient(BASE, http_client=http) as client:
        assert client.from_("people").select("*").eq("name", "jo").execute().data == [{"name": "jo"}]
        assert around.obeyed(attempts=2)["path"] == "/people?select=%2A&name=eq.jo"
        assert client.from_("people").insert({"name": "jo"}).execute().data == [{"name": "jo"}]
    around.obeyed()


async def test_postgrest_on_asyncio(around):
    postgrest = pytest.importorskip("postgrest", reason="make guests")
    http = around.mesh.async_client(base_url=BASE)
    async with postgrest.AsyncPostgrestClient(BASE, http_client=http) as client:
        assert (await client.from_("people").select("*").execute()).data == [{"name": "jo"}]
    around.obeyed(attempts=2)


# -- elasticsearch ----------------------------------------------------------------------------------------------------


async def test_elasticsearch_by_a_node_over_the_meshs_client(around):
    elasticsearch = pytest.importorskip("elasticsearch", reason="make guests")
    from elastic_transport import HttpxAsyncHttpNode

    class MeshNode(HttpxAsyncHttpNode):
        def __init__(self, config):
            super().__init__(config)
            self.client = around.mesh.async_client(base_url=self.base_url)

    async with elasticsearch.AsyncElasticsearch(BASE, node_class=MeshNode, max_retries=0) as client:
        assert (await client.search(index="books", query={"match_all": {}}))["hits"]["hits"] == []
    assert json.loads(around.obeyed(attempts=2)["body"]) == {"query": {"match_all": {}}}


# -- githubkit --------------------------------------------------------------------------------------------------------


def test_githubkit(around):
    githubkit = pytest.importorskip("githubkit", reason="make guests")
    with githubkit.GitHub(
        "token", base_url=BASE, transport=around.mesh.http_transport(), http_cache=False, auto_retry=False
    ) as github:
        response = github.request("GET", "/zen")
    assert response.text == "keep it logical"
    assert isinstance(response.raw_response, httpx.Response)
    assert around.obeyed(attempts=2)["headers"]["authorization"] == "token token"


async def test_githubkit_on_asyncio(around):
    githubkit = pytest.importorskip("githubkit", reason="make guests")
    async with githubkit.GitHub(
        "token", base_url=BASE, async_transport=around.mesh.async_http_transport(), http_cache=False, auto_retry=False
    ) as github:
        assert (await github.arequest("GET", "/zen")).text == "keep it logical"
    around.obeyed(attempts=2)
