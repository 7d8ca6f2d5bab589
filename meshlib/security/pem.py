"""PEM as files have it: whole blocks, or a sentence that says what is wrong with the text."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

LONGEST = 1 << 20
"""Bytes of one text: a bundle of hundreds of roots has some."""
CERTIFICATE, REVOCATIONS = "CERTIFICATE", "X509 CRL"
_LABEL = r"[A-Z0-9][A-Z0-9 ]{0,63}"
_EDGE = re.compile(rf"^-----(BEGIN|END) ({_LABEL})-----[ \t]*$", re.MULTILINE)

_KINDS = {"the key": "pkey", "the private key": "pkey", "the revocation list": "crl"}
"""Of ``openssl``, by what is to be converted."""
_ASCII = bytes(range(128)) + b"?" * 128


class Unusable(ValueError):
    """A certificate, key or bundle that cannot be used. ``part``: which of them; ``why``: the end of a sentence about it;
    ``remedy``: what to do. Its text holds nothing of a key."""

    def __init__(self, part: str, why: str, remedy: str) -> None:
        self.part = part
        self.why = why
        self.remedy = remedy
        super().__init__(f"{part} {why}; {remedy}")


class Block(NamedTuple):
    """``headers``: of RFC 1421, as an encrypted key of OpenSSL's old form has them. No repr shows ``content``."""

    label: str
    content: bytes
    headers: str

    def __repr__(self) -> str:
        return f"<Block {self.label}>"


def blocks(text: bytes, part: str) -> list[Block]:
    """Every block of a text. ``part`` names it in errors. Raises ``Unusable`` for a text that has none, or has one that is cut
    off or is not base64: a file may be half written."""
    if not text.strip():
        raise Unusable(part, "is empty", "wait until it has been written, or write it again")
    if len(text) > LONGEST:
        raise Unusable(part, f"is longer than {LONGEST} bytes", "give the file that has the PEM alone")
    try:
        plain = text.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        # outside of ``except``: the error of the codec holds the text
        plain = ""
    if not plain:
        kind = _KINDS.get(part, "x509")
        raise Unusable(
            part, "is binary, not PEM", f"if it is DER, convert it: openssl {kind} -inform der -in FILE -out FILE.pem"
        )
    edges = list(_EDGE.finditer(plain))
    if not edges:
        raise Unusable(
            part, "is not PEM: it has no line -----BEGIN ...-----", "give the file in PEM, as openssl writes it"
        )
    found = []
    opened: re.Match[str] | None = None
    for edge in edges:
        if edge[1] == "BEGIN":
            if opened is not None:
                raise _cut_off(part, opened[2])
            opened = edge
        elif opened is None or opened[2] != edge[2]:
            raise Unusable(part, f"has -----END {edge[2]}----- where no such block began", "write the file again")
        else:
            found.append(_block(part, edge[2], plain[opened.end() : edge.start()]))
            opened = None
    if opened is not None:
        raise _cut_off(part, opened[2])
    return found


def without_accents(text: bytes) -> bytes:
    """PEM with ``?`` for what is not ASCII: that is in its comments, which may be of any encoding. Other texts as they are."""
    return text.translate(_ASCII) if b"-----BEGIN " in text else text


def _block(part: str, label: str, body: str) -> Block:
    headers = ""
    body = body.strip("\n")
    if ":" in body.partition("\n")[0]:
        headers, _, body = body.partition("\n\n")
    try:
        content = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:  # outside of ``except``: no error is to hold a key
        raise Unusable(part, f"has a block {label} that is not valid base64", "write the file again")
    return Block(label, content, headers)


def _cut_off(part: str, label: str) -> Unusable:
    return Unusable(
        part,
        f"is cut off: a block {label} has no -----END {label}-----",
        "wait until it has been written, or write it again (to another file, then rename that)",
    )


def pem_of(der: bytes, label: str = CERTIFICATE) -> str:
    """DER as PEM, by default a certificate's."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
