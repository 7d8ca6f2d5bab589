"""A context of grpcio that is partly ours."""

from __future__ import annotations

import pytest

from meshlib.transport.grpcio.server.context_proxy import ContextProxy


class Grpcios:
    def code(self) -> str:
        return "its own"


def test_what_is_not_ours_is_grpcios_own() -> None:
    assert ContextProxy(Grpcios()).code() == "its own"


def test_what_neither_has_is_not_there() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        ContextProxy(Grpcios()).nothing()
