"""Which traffic an extension sees: ``spec.match`` of WasmPlugin and TrafficExtension."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model
from meshlib.resources.types import PortSelector, names


class ExtensionMatch(Model):
    """By mode and port; all that is given must fit."""

    mode: (
        Annotated[
            Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"],
            names("UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"),
        ]
        | None
    ) = None
    ports: list[PortSelector] | None = None
