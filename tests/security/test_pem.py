"""PEM is whole blocks, or it is refused in a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security.pem import LONGEST, Unusable, blocks, pem_of

ONE = pem_of(b"one").encode()
TWO = pem_of(b"two").encode()


def test_what_pem_of_writes_is_read() -> None:
    assert [(block.label, block.content) for block in blocks(ONE + TWO, "x")] == [
        ("CERTIFICATE", b"one"),
        ("CERTIFICATE", b"two"),
    ]


def test_texts_around_blocks_and_other_line_ends_do_not_matter() -> None:
    text = b"\xef\xbb\xbfBag Attributes\r\n    localKeyID: 01\r\n" + ONE.replace(b"\n", b"\r\n") + b"\n# end\n"
    assert [block.content for block in blocks(text, "x")] == [b"one"]


def test_headers_of_an_encrypted_key_are_told() -> None:
    text = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nb25l\n"
    assert "ENCRYPTED" in blocks(text + b"-----END RSA PRIVATE KEY-----\n", "x")[0].headers


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello", "is not PEM"),
        (b"\x30\x82\x01\x00\xff\xfe", "is binary"),
        (ONE[:-10], "is cut off"),
        (ONE[:-28] + b"\n" + TWO, "is cut off"),
        (ONE + TWO[:40], "is cut off"),
        (ONE[30:], "where no such block began"),
        (ONE.replace(b"END CERTIFICATE", b"END PRIVATE KEY"), "where no such block began"),
        (ONE.replace(b"b25l", b"b25"), "not valid base64"),
        (ONE.replace(b"b25l", b"b2*l"), "not valid base64"),
        (ONE.replace(b"b25l\n", b""), "not valid base64"),
        (ONE + b"#" * LONGEST, "is longer than"),
    ],
)
def test_what_is_not_whole_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why) as raised:
        blocks(text, "the key")
    assert str(raised.value).startswith("the key ")
    assert raised.value.remedy


@given(st.binary(max_size=200) | st.lists(st.sampled_from([ONE, TWO, ONE[:30], TWO[30:], b"\n", b"x"])).map(b"".join))
def test_no_text_raises_anything_else(text: bytes) -> None:
    try:
        found = blocks(text, "x")
    except Unusable:
        return
    assert found


def test_no_repr_shows_what_is_inside() -> None:
    assert repr(blocks(ONE, "x")) == "[<Block CERTIFICATE>]"
