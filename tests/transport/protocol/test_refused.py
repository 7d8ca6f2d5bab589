"""Why a request is not taken: what the access log says of it."""

from __future__ import annotations

from meshlib.transport.protocol.refused import Refused


def test_its_words_are_those_of_its_status_where_nobody_says_others():
    usual, said = Refused(431, "too large"), Refused(400, "no Host", "missing_host_header", "")
    assert (usual.status, usual.detail, usual.flag, str(usual)) == (431, "http1.headers_too_large", "DPE", "too large")
    assert (said.detail, said.flag) == ("missing_host_header", "")


def test_a_status_that_nobody_has_words_for_has_none():
    assert (Refused(599, "so").detail, Refused(599, "so").flag) == ("", "")
