"""Why nobody can be let in at an inbound port: what both kinds of it say of the certificate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.proxy.inbound_listener import InboundListener
from meshlib.proxy.inbound_transparent import TransparentInbound
from meshlib.proxy.tls_listener import TlsListener


class Said(TlsListener):
    """Without a socket."""

    def __init__(self, strict: str, identity: Any, *, live: object = True) -> None:
        self.core: Any = SimpleNamespace(
            live=live or None, identity=identity, clock=SimpleNamespace(time=lambda: 100.0)
        )
        self._strict = strict

    def strict(self) -> str:
        return self._strict


def identity(not_after: float | None, problem: str = "") -> Any:
    current = None if not_after is None else SimpleNamespace(svid=SimpleNamespace(not_after=not_after))
    return SimpleNamespace(current=lambda: current, problem=problem)


@pytest.mark.parametrize(
    ("listener", "why"),
    [
        (Said("", None), ""),
        (Said("", None, live=False), "the mesh is closed"),
        (Said("STRICT", None), "STRICT and the proxy has no certificate"),
        (Said("STRICT", identity(None)), "STRICT and there is no certificate yet (none has been received)"),
        (Said("STRICT", identity(None, "no agent")), "STRICT and there is no certificate yet (no agent)"),
        (Said("STRICT", identity(100.0)), "STRICT and the certificate has expired"),
        (Said("STRICT", identity(100.1)), ""),
    ],
)
def test_it_is_said_why_nobody_can_be_let_in(listener: Said, why: str) -> None:
    assert listener.why_not_ready() == why


@pytest.mark.parametrize("kind", [InboundListener, TransparentInbound])
@pytest.mark.parametrize("what", ["stop", "drained", "why_not_ready"])
def test_both_kinds_of_inbound_port_say_stop_and_drain_by_it(kind: type[TlsListener], what: str) -> None:
    assert getattr(kind, what) is getattr(TlsListener, what)
