"""The Anthropic SDK, which uses httpx2."""

from __future__ import annotations

import json

import httpx2
import pytest

from tests.guests.neighbourhood import BASE, neighbourhood, send_events, send_json

anthropic = pytest.importorskip("anthropic", reason="make guests")

MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "small",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
ASKED = {"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def behave(handler, request):
    if json.loads(request["body"]).get("stream"):
        return send_events(handler, *(f"event: {event['type']}\ndata: {json.dumps(event)}" for event in EVENTS))
    return send_json(handler, MESSAGE)


@pytest.fixture
def around():
    with neighbourhood(behave) as made:
        yield made


def test_a_call_is_tried_again_by_the_mesh(around):
    around.refuse = 1
    http = around.mesh.client(module=httpx2)
    with anthropic.Anthropic(base_url=BASE, api_key="key", max_retries=0, http_client=http) as client:
        assert client.messages.create(**ASKED).content[0].text == "hello"
    assert around.obeyed(attempts=2)["headers"]["authorization"] == "Bearer key"


def test_a_stream(around):
    http = around.mesh.client(module=httpx2)
    with anthropic.Anthropic(base_url=BASE, api_key="key", max_retries=0, http_client=http) as client:
        with client.messages.stream(**ASKED) as stream:
            assert list(stream.text_stream) == ["hel", "lo"]
    around.obeyed()


async def test_a_stream_on_asyncio(around):
    http = around.mesh.async_client(module=httpx2)
    async with anthropic.AsyncAnthropic(base_url=BASE, api_key="key", max_retries=0, http_client=http) as client:
        async with client.messages.stream(**ASKED) as stream:
            assert [text async for text in stream.text_stream] == ["hel", "lo"]
    around.obeyed()


def test_a_policys_response_is_the_sdks_exception(around):
    around.refuse = 9
    http = around.mesh.client(module=httpx2)
    with anthropic.Anthropic(base_url=BASE, api_key="key", max_retries=0, http_client=http) as client:
        with pytest.raises(anthropic.InternalServerError) as raised:
            client.messages.create(**ASKED)
    assert raised.value.response.extensions["mesh"].flags == "URX"
    around.obeyed(attempts=3)
