"""A development CA that answers as istiod, in memory, and the files of one of its clients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from meshlib.ca.callers import of_list
from meshlib.ca.certificates import CertificateService
from meshlib.ca.istiod import CertificateServer, ServerCertificate
from meshlib.clock import Clock, SystemClock
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.standing import Standing

REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
TOKEN = "t0k3n-of-reviews"


class Istiod:
    """``standing`` may be changed: another authority, other roots. Stopped and started it keeps its port."""

    def __init__(self, folder: Path, *, tokens: Mapping[str, str] | None = None, clock: Clock | None = None) -> None:
        # by the machine's time: its own certificate is verified by gRPC core
        self.clock = clock or SystemClock()
        self.root = Authority.root("cluster.local", SystemClock.time() - 86_400)
        self.standing = Standing(self.root.intermediate(SystemClock.time()), self.bundles(self.root))
        known = {TOKEN: REVIEWS} if tokens is None else tokens
        self.by_token = of_list({hashlib.sha256(token.encode()).digest(): name for token, name in known.items()})
        self.service = CertificateService(lambda: self.standing, self.by_token, self.clock)
        self.token_file, self.root_file = folder / "token", folder / "roots.pem"
        self.token_file.write_text(f"{TOKEN}\n")
        self.write_roots()
        self.port = 0
        self._server: CertificateServer | None = None

    @staticmethod
    def bundles(*roots: Authority) -> TrustBundles:
        return TrustBundles({"cluster.local": tuple(each.root_der for each in roots)})

    def write_roots(self) -> None:
        self.root_file.write_text(self.standing.bundles.pem)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        certificate = ServerCertificate(lambda: self.standing, SystemClock())
        self._server = CertificateServer(f"127.0.0.1:{self.port}", self.service, certificate)
        self._server.start()
        self.port = self._server.port
        return self

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()
