"""Resources as they may be shown: what opens doors by itself is replaced, by the name of its field or of its header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meshlib.policy.secret_values import HIDDEN, is_secret, url_shown

NAMES_OF_OTHERS = frozenset(
    ("key", "code", "jwtrules", "fromcookies", "fromparams", "fromheaders", "forwardoriginaltoken", "httpcookie",
     "credentialname", "credentialnames", "outputpayloadtoheader", "privatekey", "clientcertificate", "serviceaccounttoken",
     "jwksuri", "sessionaffinity", "sessionaffinityconfig", "automountserviceaccounttoken", "secretname", "secrets",
     "imagepullsecrets", "errorcode", "statuscode")
)  # fmt: skip
"""Fields whose names sound like secrets and that hold names of something, files or structure."""

TEXTS = frozenset(("jwks", "inlinestring", "inlinebytes", "data", "stringdata", "binarydata", "annotations"))
"""Fields whose values may have anything in them: of those nothing is shown but what they are called."""
VALUES = frozenset(("value", "values", "notvalues", "exact", "prefix", "regex", "stringmatch"))
"""Fields beside a name that say what it has to be."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_OF_HEADER = re.compile(r"request\.(?:headers|auth\.claims)\[([^\]]*)\]")


def redacted(value: Any) -> Any:
    """A resource (or a part of it) as plain values, to be shown."""
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    if isinstance(value, str):
        return _URL.sub(lambda found: url_shown(found[0]), value)
    return value


def _mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    hidden = _hides_its_value(value)
    found = {}
    for name, inner in value.items():
        plain = str(name).lower()
        secret = is_secret(plain) and plain not in NAMES_OF_OTHERS
        found[name] = hide(inner) if secret or plain in TEXTS or (hidden and plain in VALUES) else redacted(inner)
    return found


def _hides_its_value(value: Mapping[str, Any]) -> bool:
    """Whether this says something of a header, parameter or claim whose values are secrets: ``name: authorization``, or
    ``key: request.headers[x-api-key]`` of an AuthorizationPolicy."""
    for field in ("name", "key", "header", "headerName"):
        named = value.get(field)
        if isinstance(named, str):
            inner = _OF_HEADER.fullmatch(named)
            if is_secret((inner[1] if inner else named).lower()):
                return True
    return False


def hide(value: Any) -> Any:
    """The same shape, without what is in it: names of fields stay, as they say what there is."""
    if isinstance(value, Mapping):
        return {name: hide(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide(each) for each in value]
    if value is None or isinstance(value, bool):
        return value
    return HIDDEN
