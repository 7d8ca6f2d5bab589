"""A client of either runtime, and two versions of reviews for it to call."""

from __future__ import annotations

import asyncio

import httpx

import meshlib
from tests.support.resources import destination_rule, pod, service, to, virtual_service


def reviews(one: int, two: int, *rules: dict, **policy) -> list[dict]:
    return [
        service("reviews"),
        pod("reviews", "v1", one),
        pod("reviews", "v2", two),
        destination_rule("reviews", "v1", "v2", **policy),
        virtual_service("reviews", *(rules or ({"route": [to("reviews", "v1")]},))),
    ]


class Caller:
    """One client of either runtime, with one way to call."""

    def __init__(self, runtime: str, mesh: meshlib.Mesh, **options) -> None:
        self.runtime = runtime
        self.mesh = mesh
        self.options = {"timeout": 30.0, **options}  # httpx's five seconds are short on a busy machine

    def request(self, method: str, url: str, **kwargs) -> httpx.Response:
        if self.runtime == "sync":
            with self.mesh.client(**self.options) as client:
                return client.request(method, url, **kwargs)

        async def go():
            async with self.mesh.async_client(**self.options) as client:
                return await client.request(method, url, **kwargs)

        return asyncio.run(go())

    def get(self, url: str, **kwargs) -> httpx.Response:
        return self.request("GET", url, **kwargs)
