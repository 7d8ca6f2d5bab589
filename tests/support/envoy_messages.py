"""How ``meshlib/resources/envoy/messages.txt.gz`` is made: the fields of all messages that istiod knows of Envoy's.

    python -m tests.support.envoy_messages DESCRIPTORS.pb

The argument is a serialized FileDescriptorSet with all imports, as ``protoc --descriptor_set_out --include_imports`` or
``buf build -o`` writes it, of https://github.com/envoyproxy/envoy (api/ and contrib's), https://github.com/cncf/xds and Istio's
own filters (https://github.com/istio/api, envoy/). The one in use was read out of the Go packages that istiod imports for
this purpose.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2

FILE = Path(__file__).parents[2] / "meshlib" / "resources" / "envoy" / "messages.txt.gz"

_FIELD = descriptor_pb2.FieldDescriptorProto
_LETTERS = {
    **dict.fromkeys((_FIELD.TYPE_INT32, _FIELD.TYPE_SINT32, _FIELD.TYPE_SFIXED32), "i"),
    **dict.fromkeys((_FIELD.TYPE_UINT32, _FIELD.TYPE_FIXED32), "u"),
    **dict.fromkeys((_FIELD.TYPE_INT64, _FIELD.TYPE_SINT64, _FIELD.TYPE_SFIXED64), "I"),
    **dict.fromkeys((_FIELD.TYPE_UINT64, _FIELD.TYPE_FIXED64), "U"),
    _FIELD.TYPE_DOUBLE: "d",
    _FIELD.TYPE_FLOAT: "f",
    _FIELD.TYPE_BOOL: "b",
    _FIELD.TYPE_STRING: "s",
    _FIELD.TYPE_BYTES: "y",
}


def table(files: descriptor_pb2.FileDescriptorSet) -> str:
    """Messages, then enums, each in the order of their names."""
    messages: dict[str, descriptor_pb2.DescriptorProto] = {}
    enums: dict[str, descriptor_pb2.EnumDescriptorProto] = {}

    def collect(prefix: str, message: descriptor_pb2.DescriptorProto) -> None:
        name = f"{prefix}.{message.name}"
        messages[name] = message
        enums.update((f"{name}.{enum.name}", enum) for enum in message.enum_type)
        for nested in message.nested_type:
            collect(name, nested)

    for file in files.file:
        enums.update((f"{file.package}.{enum.name}", enum) for enum in file.enum_type)
        for message in file.message_type:
            collect(file.package, message)

    def kind(field: descriptor_pb2.FieldDescriptorProto) -> str:
        name = field.type_name.lstrip(".")
        if field.type in _LETTERS:
            return _LETTERS[field.type]
        return f"@{name}" if field.type == _FIELD.TYPE_ENUM else name

    def written(field: descriptor_pb2.FieldDescriptorProto) -> str:
        inner = messages.get(field.type_name.lstrip("."))
        if inner is not None and inner.options.map_entry:
            key, value = inner.field
            return f"{field.name}=%{kind(key)}:{kind(value)}"
        return f"{field.name}={'*' if field.label == _FIELD.LABEL_REPEATED else ''}{kind(field)}"

    lines = [
        " ".join([name, *map(written, message.field)])
        for name, message in sorted(messages.items())
        if not message.options.map_entry
    ]
    lines += [" ".join([f"@{name}", *(v.name for v in enum.value)]) for name, enum in sorted(enums.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    given = descriptor_pb2.FileDescriptorSet()
    given.ParseFromString(Path(sys.argv[1]).read_bytes())
    FILE.write_bytes(gzip.compress(table(given).encode(), 9, mtime=0))
