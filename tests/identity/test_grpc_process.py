"""grpcio and the processes that are forked from one that has used it."""

from __future__ import annotations

import os
import sys

import grpc
import pytest

from meshlib.identity import grpc_process
from meshlib.identity.errors import BadCredentials


def test_without_grpcio_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(BadCredentials, match=r"pip install 'sidecarless\[grpc\]'"):
        grpc_process.library()


@pytest.mark.parametrize(("support", "may"), [("", False), ("0", False), ("false", False), ("1", True), ("True", True)])
def test_a_child_of_a_process_that_has_used_it_may_not_without_fork_support(
    monkeypatch: pytest.MonkeyPatch, support: str, may: bool
) -> None:
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", support)
    monkeypatch.setattr(grpc_process, "_used_by", os.getpid() + 1)
    assert grpc_process.may_be_used() is may


def test_a_process_of_its_own_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    monkeypatch.setattr(grpc_process, "_used_by", None)
    assert grpc_process.may_be_used()
    grpc_process.used()
    assert grpc_process.may_be_used()


class Failed(grpc.RpcError):
    def __init__(self, details: str | None) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str | None:
        return self._details


def test_what_a_server_says_is_one_short_line() -> None:
    assert grpc_process.said(Failed("a\n b")) == ("UNAVAILABLE", "a b")
    assert grpc_process.said(Failed(None)) == ("UNAVAILABLE", "")
    assert len(grpc_process.said(Failed("x" * 9000))[1]) == 303
    assert grpc_process.said(grpc.RpcError()) == ("UNKNOWN", "")


def test_in_a_child_nothing_begins_before_grpcio_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler cancels every call that it finds: one that was begun before would be lost."""
    monkeypatch.setattr(grpc_process, "_settled", None)
    begun: list[str] = []
    grpc_process.once_settled(lambda: begun.append("early"))
    assert not begun
    grpc_process._settle()
    assert begun == ["early"]
    grpc_process.once_settled(lambda: begun.append("late"))
    grpc_process._settle()
    assert begun == ["early", "late"]
