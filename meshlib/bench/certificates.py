"""Certificates of an authority made for one run: ``cert.pem`` and ``key.pem`` are the server's, those with ``c-`` the client's,
``bundle.pem`` has the root."""

from __future__ import annotations

import os
from pathlib import Path

from meshlib.clock import SystemClock

CLIENT, SERVER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server"))
DNS = "server.default.svc.cluster.local"


def write_certificates(folder: Path) -> None:
    """Into an empty folder."""
    from meshlib.security.authority import Authority
    from meshlib.security.pem import pem_of

    now = SystemClock.time()
    root = Authority.root("cluster.local", now)
    (folder / "bundle.pem").write_text(pem_of(root.root_der))
    for prefix, name, dns in (("", SERVER, (DNS,)), ("c-", CLIENT, ())):
        svid = root.issue(name, now, dns=dns)
        (folder / f"{prefix}cert.pem").write_bytes(svid.chain_pem)
        key = os.open(folder / f"{prefix}key.pem", os.O_WRONLY | os.O_CREAT, 0o600)
        with open(key, "wb") as opened:
            opened.write(svid.key_pem)
