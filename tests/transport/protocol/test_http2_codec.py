"""What a session asks of an HTTP/2 library: both offer it, whole."""

from __future__ import annotations

import inspect

import pytest

from meshlib.transport.protocol.http2_codec import Code, Codec, Violation, name_of
from tests.support.http2_codecs import CODECS

ASKED = sorted(name for name, value in vars(Codec).items() if not name.startswith("_"))


@pytest.mark.parametrize("library", sorted(CODECS))
def test_each_library_offers_all_of_it_with_the_same_arguments(library):
    codec = CODECS[library]
    for name in ASKED:
        wanted, offered = getattr(Codec, name), getattr(codec, name)
        if inspect.isfunction(wanted):
            assert list(inspect.signature(offered).parameters) == list(inspect.signature(wanted).parameters), name


def test_codes_are_told_by_name_where_they_have_one():
    assert (name_of(8), name_of(Code.REFUSED_STREAM), name_of(99)) == ("CANCEL", "REFUSED_STREAM", "code 99")


def test_a_violation_is_a_protocol_error_unless_it_says_otherwise():
    assert (Violation("x").code, Violation("x", None).code) == (Code.PROTOCOL_ERROR, None)
