"""Fault injection (VirtualService ``fault``): drawn once per call, never per attempt; delay first, abort independently."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from meshlib.policy.grpc_status import NAMES, NUMBERS, http_of_grpc
from meshlib.policy.unsigned import UINT64, milliseconds, unsigned

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class FaultPolicy:
    """``delay`` in seconds; shares in millionths of all calls, as Envoy counts them. ``abort_status`` is the HTTP status
    of an abort (0: none); ``abort_grpc`` the gRPC status, when that is what the resource names. ``header_delay`` and
    ``header_abort``: the request's own ``x-envoy-fault-*`` headers say what, and at most the shares here how often; the
    units are what one of a percentage header counts, in millionths."""

    delay: float = 0.0
    delay_share: int = 0
    abort_status: int = 0
    abort_grpc: int | None = None
    abort_share: int = 0
    header_delay: bool = False
    header_abort: bool = False
    delay_unit: int = MILLION // 100
    abort_unit: int = MILLION // 100

    @property
    def reads_headers(self) -> bool:
        """Whether ``by_headers`` must be asked before ``draw``."""
        return self.header_delay or self.header_abort

    @classmethod
    def from_percents(
        cls,
        *,
        delay: float = 0.0,
        delay_percent: float = 0.0,
        abort_status: int = 0,
        abort_grpc_status: str | None = None,
        abort_percent: float = 0.0,
    ) -> Self:
        """From the resource's values: percents 0..100 with four decimals, gRPC status by name."""
        grpc = None if abort_grpc_status is None else NUMBERS[abort_grpc_status.upper()]
        if grpc is not None and not abort_status:
            abort_status = http_of_grpc(grpc)
        return cls(
            delay=delay,
            delay_share=round(delay_percent * MILLION / 100),
            abort_status=abort_status,
            abort_grpc=grpc,
            abort_share=round(abort_percent * MILLION / 100),
        )

    @property
    def text(self) -> str:
        """For people: ``delay 7 s for 100 %, abort 500 for 10 %``."""
        parts = []
        if self.delay_share:
            parts.append(f"delay {self.delay:g} s for {self.delay_share * 100 / MILLION:g} %")
        if self.abort_share:
            what = self.abort_status if self.abort_grpc is None else f"{NAMES[self.abort_grpc]} ({self.abort_status})"
            parts.append(f"abort {what} for {self.abort_share * 100 / MILLION:g} %")
        return ", ".join(parts)


def draw(fault: FaultPolicy, rng: random.Random) -> tuple[float, int, int | None]:
    """What this call gets: (seconds of delay or 0.0, HTTP status of an abort or 0, its gRPC status or None)."""
    delay = fault.delay if _hit(fault.delay_share, rng) else 0.0
    if _hit(fault.abort_share, rng):
        return delay, fault.abort_status, fault.abort_grpc
    return delay, 0, None


def by_headers(fault: FaultPolicy, header: Callable[[str], str | None]) -> FaultPolicy:
    """The fault that a request asks for itself (Envoy's ``header_delay`` and ``header_abort``). What cannot be read asks
    for nothing; a percentage header can only lower the share that the configuration allows."""
    if fault.header_delay:
        delay = milliseconds(header("x-envoy-fault-delay-request"))
        share = _lowered(fault.delay_share, fault.delay_unit, header("x-envoy-fault-delay-request-percentage"))
        fault = replace(fault, delay=delay or 0.0, delay_share=share if delay else 0)
    if fault.header_abort:
        status = unsigned(header("x-envoy-fault-abort-request"), UINT64)
        grpc = None
        if status is None or not 200 <= status < 600:
            status = 0
            grpc = unsigned(header("x-envoy-fault-abort-grpc-request"), UINT64)
            if grpc is not None and grpc < len(NUMBERS):
                status = http_of_grpc(grpc)
            else:
                grpc = None
        share = _lowered(fault.abort_share, fault.abort_unit, header("x-envoy-fault-abort-request-percentage"))
        fault = replace(fault, abort_status=status, abort_grpc=grpc, abort_share=share if status else 0)
    return fault


def _lowered(share: int, unit: int, header: str | None) -> int:
    asked = unsigned(header)
    return share if asked is None else min(share, asked * unit)


def _hit(share: int, rng: random.Random) -> bool:
    if share <= 0:
        return False
    return share >= MILLION or rng.random() * MILLION < share
