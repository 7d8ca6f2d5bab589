"""The shop's generated stubs. They live with the application, which is a folder of its own and not part of meshlib."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from meshlib.demo.shop import APP

if str(APP) not in sys.path:
    sys.path.append(str(APP))  # last: nothing in it may hide a module of somebody else

catalog_pb2: Any = importlib.import_module("shop.catalog_pb2")
catalog_pb2_grpc: Any = importlib.import_module("shop.catalog_pb2_grpc")
orders_pb2: Any = importlib.import_module("shop.orders_pb2")
orders_pb2_grpc: Any = importlib.import_module("shop.orders_pb2_grpc")
