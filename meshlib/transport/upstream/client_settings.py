"""What a client was made with."""

from __future__ import annotations

from meshlib.transport.protocol.http2_choice import installed
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.problems import HTTP2_REMEDY
from meshlib.transport.upstream.tls import Cert, Context, Verify, caller_context


class ClientSettings:
    """What a client was made with: its TLS, for https URLs (the context is made on first use, it takes milliseconds), and
    ``limits`` of its own. ``http2``: HTTP/2 is offered in the handshake, and the server decides. ``guarded``: it never connects
    to addresses that ``policy.guarded_addresses`` names, whatever name led there."""

    def __init__(
        self,
        verify: Verify = True,
        cert: Cert = None,
        trust_env: bool = True,
        http2: bool = False,
        limits: ClientLimits | None = None,
        guarded: bool = False,
    ) -> None:
        if http2 and not installed():
            raise ImportError(f"http2=True needs ngh2 or h2: {HTTP2_REMEDY}")
        self._verify = verify
        self._cert = cert
        self._trust_env = trust_env
        self._context: Context | None = None
        self.http2 = http2
        self.limits = limits
        self.guarded = guarded

    def context(self) -> Context:
        """The context, or the files it follows; made once."""
        if self._context is None:
            self._context = caller_context(self._verify, self._cert, self._trust_env)
        return self._context
