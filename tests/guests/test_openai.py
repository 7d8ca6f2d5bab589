"""The OpenAI SDK, which uses httpx2."""

from __future__ import annotations

import json

import httpx2
import pytest

from tests.guests.neighbourhood import BASE, neighbourhood, send_events, send_json

openai = pytest.importorskip("openai", reason="make guests")

COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}
ASKED = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


def chunk(text):
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return "data: " + json.dumps({**COMPLETION, "object": "chat.completion.chunk", "choices": [delta]})


def behave(handler, request):
    if request["path"].endswith("/files"):
        return send_json(
            handler, {"id": "f1", "object": "file", "bytes": 5, "created_at": 1, "filename": "a", "purpose": "batch"}
        )
    if json.loads(request["body"]).get("stream"):
        return send_events(handler, chunk("hel"), chunk("lo"), "data: [DONE]")
    return send_json(handler, COMPLETION)


@pytest.fixture
def around():
    with neighbourhood(behave) as made:
        yield made


@pytest.fixture
def client(around):
    with openai.OpenAI(
        base_url=f"{BASE}/v1", api_key="key", max_retries=0, http_client=around.mesh.client(module=httpx2)
    ) as made:
        yield made


def test_a_call_is_tried_again_by_the_mesh(around, client):
    around.refuse = 1
    raw = client.chat.completions.with_raw_response.create(**ASKED)
    assert raw.parse().choices[0].message.content == "hello"
    last = around.obeyed(attempts=2)
    assert (last["path"], last["headers"]["authorization"]) == ("/v1/chat/completions", "Bearer key")
    assert raw.http_response.extensions["mesh"].subset == "v2"


def test_a_stream(around, client):
    pieces = [piece.choices[0].delta.content for piece in client.chat.completions.create(**ASKED, stream=True)]
    assert pieces == ["hel", "lo"]
    around.obeyed()


def test_an_upload(around, client):
    assert client.files.create(file=("a.jsonl", b"hello"), purpose="batch").id == "f1"
    last = around.obeyed()
    assert last["headers"]["content-type"].startswith("multipart/form-data")
    assert "hello" in last["body"]


async def test_on_asyncio(around):
    http = around.mesh.async_client(module=httpx2)
    async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key="key", max_retries=0, http_client=http) as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        assert [piece.choices[0].delta.content async for piece in stream] == ["hel", "lo"]
    around.obeyed()


def test_a_client_of_ones_own_over_the_meshs_transport(around):
    http = httpx2.Client(transport=around.mesh.http_transport())
    with openai.OpenAI(base_url=f"{BASE}/v1", api_key="key", max_retries=0, http_client=http) as client:
        assert client.chat.completions.create(**ASKED).choices[0].message.content == "hello"
    around.obeyed()


def test_what_the_network_did_is_the_sdks_own_exception_and_tells_the_meshs_story(around):
    around.fake.stop()
    http = around.mesh.client(module=httpx2)
    with openai.OpenAI(base_url=f"{BASE}/v1", api_key="key", max_retries=0, http_client=http) as client:
        with pytest.raises(openai.APIConnectionError) as raised:
            client.chat.completions.create(**ASKED)
    assert raised.value.__cause__.exchange.flags == "UF,URX"
    assert raised.value.request.url == f"{BASE}/v1/chat/completions"
