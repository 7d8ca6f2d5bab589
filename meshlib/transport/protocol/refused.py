"""Why a request of HTTP/1.1 or HTTP/2 is not taken, in Envoy's words for the access log."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not taken: the ``status`` that says so, and why, for the log. Nothing that follows it is read.
    ``detail`` and ``flag`` are Envoy's words for the access log: those of its status where nobody says others."""

    def __init__(self, status: int, why: str, detail: str = "", flag: str | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        known, usual = _DETAILS.get(status, ("", ""))
        self.detail = detail or known
        self.flag = usual if flag is None else flag


_DPE = "DPE"
CHARACTERS = "http1.invalid_characters"
_DETAILS = {
    400: ("http1.codec_error", _DPE),
    403: ("upgrade_failed", ""),
    404: ("absolute_path_rejected", ""),
    408: ("request_header_timeout", ""),
    417: ("unknown_expectation", _DPE),
    426: ("low_version", _DPE),
    431: ("http1.headers_too_large", _DPE),
    500: ("proxy_failed", ""),
    501: ("http1.invalid_transfer_encoding", _DPE),
    503: ("overload", "OM"),
}
"""By status: Envoy's response code details, and its response flag."""
