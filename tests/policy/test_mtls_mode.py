"""The modes of PeerAuthentication, as Istio spells them."""

from __future__ import annotations

import pytest

from meshlib.policy.mtls_mode import MtlsMode, settled


def test_a_mode_is_named_as_istio_writes_it_and_unset_is_none_of_them() -> None:
    assert [mode.value for mode in MtlsMode] == ["DISABLE", "PERMISSIVE", "STRICT"]


@pytest.mark.parametrize("written", [None, "UNSET"])
def test_what_is_unset_is_inherited(written: str | None) -> None:
    assert settled(written, MtlsMode.STRICT) is MtlsMode.STRICT


def test_what_is_written_counts_before_what_is_inherited() -> None:
    assert settled("DISABLE", MtlsMode.STRICT) is MtlsMode.DISABLE
