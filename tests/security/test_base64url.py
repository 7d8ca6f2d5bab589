"""Base64url: each value has one text, and that is taken; no other is."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.base64url import NotBase64Url, decode, decode_of_key, encode


@given(st.binary(max_size=64))
def test_what_is_encoded_is_decoded_again(content):
    text = encode(content)
    assert text == base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    assert decode(text) == decode_of_key(text) == content


@given(st.text(alphabet="ABCabc019-_+/= \n.é", max_size=9))
def test_every_other_text_is_refused(text):
    try:
        content = decode(text)
    except NotBase64Url:
        pass
    else:
        assert encode(content) == text


def test_the_text_is_in_no_error():
    with pytest.raises(NotBase64Url) as caught:
        decode("canary!")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", ["A", "AB", "AAB", "AA==", "AAA=", "AA\n", "A A", "AA+/", "ÀA", "AAAA\n"])
def test_refused(text):
    with pytest.raises(NotBase64Url):
        decode(text)


@pytest.mark.parametrize(("text", "content"), [("AB==", b"\0"), ("AB", b"\0"), ("AAA=", b"\0\0"), ("", b"")])
def test_fields_of_keys_may_be_padded(text, content):
    assert decode_of_key(text) == content


@pytest.mark.parametrize("text", ["A", "A===", "AA+/", "AA\n", "=AA", "AA===", "A=A="])
def test_fields_of_keys_that_are_something_else_are_refused(text):
    with pytest.raises(NotBase64Url):
        decode_of_key(text)
