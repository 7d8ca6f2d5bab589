"""Visitors who look at the page all the while: every call of every hop is counted, and nothing is asked twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Any, Self

import httpx

API = "http://productpage:9080/api/v1/products/0"
WIDTH = 3
PAUSE = 0.01
PATIENCE = 30.0
KEPT = 3


class Load:
    """A context manager: ``looks`` and ``failures`` (by what was said) grow meanwhile. Every second visitor keeps no
    connection, so that there are handshakes all the while."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"}
        self._tasks: list[asyncio.Task[None]] = []
        self.looks = 0
        self.failures: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._visit(number)) for number in range(WIDTH)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _visit(self, number: int) -> None:
        while True:
            for path in ("", "/reviews"):
                await self._look(path, {"connection": "close"} if number % 2 else {})
            await asyncio.sleep(PAUSE)

    async def _look(self, path: str, more: dict[str, str]) -> None:
        try:
            response = await self._client.get(API + path, headers={**self._headers, **more}, timeout=PATIENCE)
        except httpx.HTTPError as error:
            self._failed(f"productpage: {type(error).__name__}: {error}")
        else:
            if response.status_code != 200:
                self._failed(f"productpage: {response.status_code} {response.text[:200]}")
            else:
                for hop in _hops(response.json()):
                    if hop["status"] != 200 or hop["error"]:
                        self._failed(f"{hop['service']}: {hop['status']} {hop['flags']} {hop['error']}"[:300])
        self.looks += 1

    def _failed(self, why: str) -> None:
        if why in self.failures or len(self.failures) < KEPT:
            self.failures[why] += 1
        else:
            self.failures["others"] += 1


def _hops(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [*found.get("calls", ()), *([found["mesh"]] if "mesh" in found else [])]
