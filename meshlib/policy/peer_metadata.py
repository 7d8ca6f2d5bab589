"""The exchange of workload metadata in headers, as Istio's proxies have it: a caller says in ``x-envoy-peer-metadata`` which
workload it is, and the server it calls says the same in the response. What is said makes labels of metrics, and nothing else:
who may come in is decided by certificates.

The value is base64 of a ``google.protobuf.Struct``: texts by name (``WORKLOAD_NAME``, ``NAMESPACE``, ``CLUSTER_ID``), and a
struct of texts (``LABELS``).
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from meshlib.policy.header_ops import HeaderOps
from meshlib.policy.protobuf import Message, data, message, text

if TYPE_CHECKING:
    from meshlib.policy.header_ops import Headers

METADATA = "x-envoy-peer-metadata"
METADATA_ID = "x-envoy-peer-metadata-id"
NAMES = (METADATA.encode(), METADATA_ID.encode())
"""As on the wire."""

LONGEST = 8192
"""Characters of a value that are looked at: a longer one says nothing. Istio's are shorter than 1,000."""
MOST_REMEMBERED = 256
"""Values of which is remembered what they say."""

FOR_THE_MESH = HeaderOps(remove=NAMES)
"""The last operation on a response from a peer that may have told of itself: the application does not see it."""

_NAME = "service.istio.io/canonical-name"
_REVISION = "service.istio.io/canonical-revision"
_APPS = "app.kubernetes.io/name", "app"
_VERSIONS = "app.kubernetes.io/version", "version"
CANONICAL_NAMES = _NAME, *_APPS
CANONICAL_REVISIONS = _REVISION, *_VERSIONS
"""Labels, the first that is there counts."""
_FIELDS, _KEY, _VALUE, _TEXT, _STRUCT = 1, 1, 2, 3, 5
"""Numbers of the fields of Struct, of an entry of its map, and of Value."""

_LABEL = re.compile(r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_WORKLOAD = re.compile(r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class PeerMetadata:
    """What a peer says of itself; "" of what it does not say."""

    workload: str = ""
    namespace: str = ""
    cluster: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    app: str = ""
    version: str = ""


NOTHING_SAID = PeerMetadata()


@dataclass(frozen=True, slots=True)
class OwnMetadata:
    """What this workload says of itself, as its two headers have it. Istio's proxies remember what a peer with some ``id`` has
    said first, so ours is another when something else is said."""

    value: bytes
    id: bytes

    @property
    def request_ops(self) -> HeaderOps:
        """The operation that says it in a request."""
        return HeaderOps(set=((NAMES[0], self.value), (NAMES[1], self.id)))


def own_metadata(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    cluster: str = "Kubernetes",
    address: str = "",
    domain: str = "cluster.local",
) -> OwnMetadata:
    """The headers of the workload ``name`` at ``address`` ("": not known). Of its labels the four that metrics are made of: the
    others are nobody's business."""
    said = {
        _NAME: first_label(labels, CANONICAL_NAMES) or name,
        _REVISION: first_label(labels, CANONICAL_REVISIONS),
        "app": labels.get("app", ""),
        "version": labels.get("version", ""),
    }
    texts = {"CLUSTER_ID": cluster, "NAMESPACE": namespace, "WORKLOAD_NAME": name}
    fields = {
        **{key: text(_TEXT, value) for key, value in texts.items() if value},
        "LABELS": message(_STRUCT, _struct({key: text(_TEXT, value) for key, value in said.items() if value})),
    }
    raw = _struct(fields)
    ident = f"sidecar~{address}~{name}-{zlib.crc32(raw):08x}.{namespace}~{namespace}.svc.{domain}"
    return OwnMetadata(binascii.b2a_base64(raw, newline=False), ident.encode("ascii", "replace"))


def first_label(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The value of the first of these labels that is there, "" without one."""
    return next((labels[name] for name in names if labels.get(name)), "")


def _struct(fields: Mapping[str, bytes]) -> bytes:
    return b"".join(message(_FIELDS, text(_KEY, name) + data(_VALUE, fields[name])) for name in sorted(fields))


def read(value: str) -> PeerMetadata | None:
    """What the header's value says; None: nothing. Whoever sends it may have written anything: of what is no name and no label
    of Kubernetes' nothing is taken, and what is no metadata at all says nothing."""
    return None if len(value) > LONGEST else _read(value)


def told(headers: Headers) -> PeerMetadata | None:
    """What the headers of a response say."""
    value = next((value for name, value in headers if name.lower() == NAMES[0]), b"")
    return read(value.decode("latin-1")) if value else None


@lru_cache(MOST_REMEMBERED)
def _read(value: str) -> PeerMetadata | None:
    # by the value, never by the id that came with it: another peer may have used that id
    try:
        raw = binascii.a2b_base64(value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4), strict_mode=True)
        fields = _entries(Message(raw))
        labels = {name: _text(said) for name, said in _entries(fields.get("LABELS", _NOTHING).message(_STRUCT)).items()}
        found = PeerMetadata(
            _named(_text(fields.get("WORKLOAD_NAME", _NOTHING)), _WORKLOAD),
            _named(_text(fields.get("NAMESPACE", _NOTHING)), _LABEL),
            _named(_text(fields.get("CLUSTER_ID", _NOTHING)), _WORKLOAD),
            _named(labels.get(_NAME, ""), _LABEL),
            _named(labels.get(_REVISION, ""), _LABEL),
            _first(labels, _APPS),
            _first(labels, _VERSIONS),
        )
    except ValueError:
        return None
    return None if found == NOTHING_SAID else found


_NOTHING = Message(b"")


def _entries(struct: Message) -> dict[str, Message]:
    return {entry.text(_KEY): entry.message(_VALUE) for entry in struct.messages(_FIELDS)}


def _text(value: Message) -> str:
    return value.text(_TEXT)


def _named(value: str, pattern: re.Pattern[str]) -> str:
    return value if pattern.fullmatch(value) else ""


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((found for name in names if (found := _named(labels.get(name, ""), _LABEL))), "")
