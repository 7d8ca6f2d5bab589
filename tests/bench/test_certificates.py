"""The certificates of a run: a server's and a client's, of one authority made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: there are no certificates to make")


def test_server_and_client_have_certificates_that_the_bundle_vouches_for(tmp_path: Path) -> None:
    import meshlib
    from meshlib.bench.certificates import write_certificates

    write_certificates(tmp_path)
    for prefix in ("", "c-"):
        meshlib.Identity.from_files(
            tmp_path / f"{prefix}cert.pem", tmp_path / f"{prefix}key.pem", tmp_path / "bundle.pem"
        )
        assert (tmp_path / f"{prefix}key.pem").stat().st_mode & 0o077 == 0
