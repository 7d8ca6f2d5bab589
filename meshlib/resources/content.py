"""A hash of what a document says, to tell at little cost whether it says the same as another one did."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Mapping

from meshlib.pace import take_turns

_LONG = 8
_FORMAT = 2  # the last that does not depend on which objects are shared


def content_digest(document: object) -> bytes | None:
    """Equal for documents of equal values, of equal types, in the same order. None for what is more than dicts, lists, texts,
    numbers and the like. Long lists in the document or its ``spec`` are looked at entry by entry."""
    if not isinstance(document, Mapping):
        return None
    digest = hashlib.blake2b(digest_size=16)
    try:
        for key, value in document.items():
            inside = value if key == "spec" and type(value) is dict else None
            digest.update(marshal.dumps((key, None if inside is None else len(inside)), _FORMAT))
            for name, part in ({key: value} if inside is None else inside).items():
                if type(part) is list and len(part) > _LONG:
                    digest.update(marshal.dumps((name, "list", len(part)), _FORMAT))
                    for entry in part:
                        take_turns()
                        digest.update(marshal.dumps(entry, _FORMAT))
                else:
                    digest.update(marshal.dumps((name, part), _FORMAT))
    except ValueError:
        return None
    return digest.digest()
