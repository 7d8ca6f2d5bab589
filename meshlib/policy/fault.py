"""Fault injection (VirtualService ``fault``): drawn once per call, never per attempt; delay first, abort independently."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Self

from meshlib.policy.grpc_status import NAMES, NUMBERS, http_of_grpc

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class FaultPolicy:
    """``delay`` in seconds; shares in millionths of all calls, as Envoy counts them. ``abort_status`` is the HTTP status
    of an abort (0: none); ``abort_grpc`` the gRPC status, when that is what the resource names."""

    delay: float = 0.0
    delay_share: int = 0
    abort_status: int = 0
    abort_grpc: int | None = None
    abort_share: int = 0

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


def _hit(share: int, rng: random.Random) -> bool:
    if share <= 0:
        return False
    return share >= MILLION or rng.random() * MILLION < share
