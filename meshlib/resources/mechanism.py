"""What the mechanisms of a ResiliencePolicy share, on both sides of a call."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model
from meshlib.resources.types import Positive, names

Mode = Annotated[Literal["enforce", "shadow"], names("enforce", "shadow")]


class Mechanism(Model):
    """What all mechanisms share."""

    mode: Mode = "enforce"


class RedisStorage(Model):
    """A Redis shared by a fleet: ``url`` such as redis://host:6379/0."""

    url: str = Field(repr=False)  # there may be a password in it


class AdaptiveConcurrency(Mechanism):
    """A limit that follows measured latency."""

    algorithm: Annotated[Literal["gradient"], names("gradient")] = "gradient"
    min_limit: Positive = 1
    max_limit: Positive = 1000
