"""The Mistral SDK, which uses httpx2."""

from __future__ import annotations

import json

import httpx2
import pytest

from tests.guests.neighbourhood import BASE, neighbourhood, send_events, send_json

client_of_mistral = pytest.importorskip("mistralai.client", reason="make guests")

COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}
ASKED = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


def chunk(text):
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return "data: " + json.dumps({**COMPLETION, "choices": [delta]})


def behave(handler, request):
    if json.loads(request["body"]).get("stream"):
        return send_events(handler, chunk("hel"), chunk("lo"), "data: [DONE]")
    return send_json(handler, COMPLETION)


@pytest.fixture
def around():
    with neighbourhood(behave) as made:
        yield made


def test_a_call_is_tried_again_by_the_mesh_and_streams(around):
    around.refuse = 1
    with around.mesh.client(module=httpx2) as http:
        client = client_of_mistral.Mistral(api_key="key", server_url=BASE, client=http)
        assert client.chat.complete(**ASKED).choices[0].message.content == "hello"
        around.obeyed(attempts=2)
        with client.chat.stream(**ASKED) as stream:
            assert [event.data.choices[0].delta.content for event in stream] == ["hel", "lo"]
    around.obeyed()


async def test_on_asyncio(around):
    async with around.mesh.async_client(module=httpx2) as http:
        client = client_of_mistral.Mistral(api_key="key", server_url=BASE, async_client=http)
        assert (await client.chat.complete_async(**ASKED)).choices[0].message.content == "hello"
        async with await client.chat.stream_async(**ASKED) as stream:
            assert [event.data.choices[0].delta.content async for event in stream] == ["hel", "lo"]
    around.obeyed()
