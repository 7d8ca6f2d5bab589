"""Which connections a port accepts (PeerAuthentication ``mtls.mode``)."""

from __future__ import annotations

from enum import Enum


class MtlsMode(Enum):
    """``UNSET`` is settled when a workload's settings are compiled; a port has one of the others."""

    DISABLE = "DISABLE"
    """Plain text alone."""
    PERMISSIVE = "PERMISSIVE"
    """Both, on one port."""
    STRICT = "STRICT"
    """mTLS alone: plain text is reset by our acceptor, and refused by checks elsewhere."""


def settled(written: str | None, inherited: MtlsMode) -> MtlsMode:
    """The mode that a policy's text stands for: UNSET, and nothing at all, is what the wider policy says."""
    return inherited if written in (None, "UNSET") else MtlsMode(written)
