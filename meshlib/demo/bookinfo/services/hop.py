"""One call to the next service, and what the mesh did with it: what the page shows and the demo counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Hop:
    """``status`` is 0 when there was no answer; then ``error`` says why. ``rule`` is -1 for a default route, None when no
    rule matched. ``flags`` are Envoy's response flags, ``attempts`` how many endpoints were tried, ``ms`` the whole call."""

    service: str
    status: int
    resource: str
    rule: int | None
    subset: str
    endpoint: str
    attempts: int
    flags: str
    ms: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


async def call(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], timeout: float
) -> tuple[dict[str, Any] | None, Hop]:
    """GET ``url``: the JSON object of a 200, or None, and the hop. The network's failures become ``Hop.error``."""
    started = time.perf_counter()
    try:
        response = await client.get(url, headers=dict(headers), timeout=timeout)
    except httpx.TransportError as error:
        # every error of the mesh is also httpx's, and carries what was decided and tried
        return None, _hop(url, 0, getattr(error, "exchange", None), started, str(error) or type(error).__name__)
    record = response.extensions.get("mesh")
    if response.status_code != 200:
        reason = response.text.strip()[:300] or response.reason_phrase
        return None, _hop(url, response.status_code, record, started, reason)
    try:
        data = response.json()
    except ValueError as error:
        return None, _hop(url, 200, record, started, f"the answer is not JSON: {error}")
    if not isinstance(data, dict):
        return None, _hop(url, 200, record, started, "the answer is not a JSON object")
    return data, _hop(url, 200, record, started, "")


def _hop(url: str, status: int, record: Any, started: float, error: str) -> Hop:
    ms = round((time.perf_counter() - started) * 1000, 2)
    service = httpx.URL(url).host
    if record is None:
        return Hop(service, status, "", None, "", "", 1, "", ms, error)
    return Hop(
        service,
        status,
        record.resource,
        record.rule,
        record.subset,
        record.endpoint,
        len(record.attempts),
        record.flags,
        ms,
        error,
    )
