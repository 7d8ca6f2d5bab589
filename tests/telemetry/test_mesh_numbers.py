"""What a mesh tells about itself, before anybody renders it."""

from __future__ import annotations

import dataclasses

import pytest

from meshlib.telemetry.mesh_metrics import samples
from meshlib.telemetry.mesh_numbers import CertificateNumbers, MeshNumbers


def rendered(numbers: MeshNumbers) -> dict[tuple[str, ...], float]:
    return {(family.name, *labels): number for family, labels, number in samples(numbers)}


def test_a_mesh_that_tells_nothing_shows_that_nothing_has_failed():
    assert rendered(MeshNumbers()) == {("meshlib_telemetry_failures_total",): 0}


def test_what_was_dropped_shows_by_kind():
    assert rendered(MeshNumbers(failures=2, dropped={"spans": 3})) == {
        ("meshlib_telemetry_failures_total",): 2,
        ("meshlib_telemetry_dropped_total", "spans"): 3,
    }


def test_without_a_certificate_there_is_no_time_at_which_it_expires():
    """0 would read as 1970, and wake somebody."""
    shown = rendered(MeshNumbers(certificate=CertificateNumbers("", 0.0, 0, False, {})))
    assert shown == {("meshlib_certificate_ready",): 0, ("meshlib_telemetry_failures_total",): 0}


def test_numbers_that_were_read_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MeshNumbers().failures = 1  # type: ignore[misc]
