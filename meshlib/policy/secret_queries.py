"""URLs whose query does not tell secrets, for whoever writes down where a request went."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from meshlib.policy.secret_values import is_secret

INSTEAD = "***"
"""What stands for the value of a parameter that opens doors by itself."""


def without_secrets(url: str) -> str:
    """A path, or a URL, whose query does not tell the values of parameters that open doors by themselves."""
    path, mark, query = url.partition("?")
    if not mark:
        return url
    return f"{path}?{query_without_secrets(query)}"


def query_without_secrets(query: str) -> str:
    """The same of a query alone."""
    pairs = query.split("&")
    for n, pair in enumerate(pairs):
        name, mark, value = pair.partition("=")
        if value and is_secret(decoded(name).lower()):
            pairs[n] = f"{name}{mark}{INSTEAD}"
    return "&".join(pairs)


def decoded(text: str) -> str:
    """A part of a query without its percent signs, as a wire string (bytes read as latin-1)."""
    if "%" not in text and "+" not in text:
        return text
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1", "replace")).decode("latin-1")
