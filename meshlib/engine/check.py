"""What a check of the inbound exchange is: a function of the request, or a generator that asks before it says."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias

from meshlib.engine.effects import Step
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.plain_request import PlainRequest
from meshlib.policy.refusal import Refusal

Asking: TypeAlias = Generator[Step[PlainRequest], None, Refusal | None]
"""A check that asks: its calls are of plain requests, so that every runtime that has a network can make them."""
Check: TypeAlias = Callable[[InboundRequest], Refusal | Asking | None]
"""None lets the request in; one that raises refuses it."""
