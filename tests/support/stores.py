"""Authorities on disk for tests, and what a holder of their files sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshlib.ca.store import Store
from tests.support.fake_clock import FakeClock

REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
RATINGS = "spiffe://cluster.local/ns/default/sa/ratings"


def store(folder: Path, clock: FakeClock | None = None) -> Store:
    return Store.create(folder / "ca", "cluster.local", clock or FakeClock())


def is_a_pair(folder: Path) -> bool:
    """Whether key and certificate in the folder belong together."""
    leaf = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    return load_pem_private_key((folder / "key.pem").read_bytes(), None).public_key() == leaf.public_key()


def roots_in(file: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(file.read_bytes())


class Crash(BaseException):
    """The process is gone: nothing catches it."""


@contextmanager
def crashing_at(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process ends at the ``count``-th time that something is to reach the disk."""
    left = [count]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield
