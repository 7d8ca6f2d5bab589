"""A server that does not accept our certificate. Under TLS 1.3 the handshake is over for us before the server has looked at
it, and says so in an alert at our first read.

Such an alert means that the server has not accepted the handshake, so that no request was processed: the attempt counts as a
failure to connect, and may be tried again. (It cannot be one about a certificate asked for later: that takes a context
with ``post_handshake_auth``, which is looked at here.)
"""

from __future__ import annotations

import ssl

_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a certificate and was shown none",
    "SSLV3_ALERT_NO_CERTIFICATE": "it requires a certificate and was shown none",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority that has signed ours (unknown CA)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it cannot use ours (bad certificate)",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not support certificates of our kind (unsupported certificate)",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "ours is revoked (certificate revoked)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "ours has expired, or is not valid yet by its clock (certificate expired)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept ours, perhaps because of the name in it (certificate unknown)",
    "TLSV1_ALERT_ACCESS_DENIED": "it accepts the certificate and denies access (access denied)",
    "TLSV1_ALERT_DECRYPT_ERROR": "it could not verify our signature (decrypt error)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it found no way to agree with us (handshake failure)",
}
"""By OpenSSL's names of alerts that a server may send in response to the client's last flight."""


def refusal_in(error: BaseException | None) -> str:
    """What a server has said of our certificate, as the end of a sentence; "" when the error is not about that."""
    reason: object = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    return _ALERTS.get(reason, "") if isinstance(reason, str) else ""


_NOTE = "_meshlib_refuses_late"
HINT = "a server that does not accept our certificate may end a connection so"


def note_handshake(peer: ssl.SSLObject) -> None:
    """A handshake is over: whether the server still looks at our certificate. (After an alert OpenSSL tells no more.)"""
    late = peer.version() == "TLSv1.3" and not peer.context.post_handshake_auth
    if late:
        peer.__dict__[_NOTE] = True


def may_refuse_late(peer: object) -> bool:
    """Whether the first read may bring the server's verdict on our certificate, and nothing that was asked for later."""
    return bool(getattr(peer, _NOTE, False))


def refusal_at_first_read(peer: object, error: BaseException | None) -> str:
    """As ``refusal_in``, for what the first read of a connection has brought about; "" also where a request may have been
    processed."""
    return refusal_in(error) if may_refuse_late(peer) else ""
