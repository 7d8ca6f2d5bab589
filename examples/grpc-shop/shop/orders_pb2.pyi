from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Line(_message.Message):
    __slots__ = ("product_id", "quantity")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    quantity: int
    def __init__(self, product_id: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("lines", "total_cents", "pod")
    LINES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_CENTS_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[PricedLine]
    total_cents: int
    pod: str
    def __init__(self, lines: _Optional[_Iterable[_Union[PricedLine, _Mapping]]] = ..., total_cents: _Optional[int] = ..., pod: _Optional[str] = ...) -> None: ...

class PricedLine(_message.Message):
    __slots__ = ("product_id", "quantity", "unit_cents", "catalog_version", "catalog_time_left_ms", "catalog_trace_id")
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    UNIT_CENTS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    CATALOG_TIME_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    product_id: str
    quantity: int
    unit_cents: int
    catalog_version: str
    catalog_time_left_ms: int
    catalog_trace_id: str
    def __init__(self, product_id: _Optional[str] = ..., quantity: _Optional[int] = ..., unit_cents: _Optional[int] = ..., catalog_version: _Optional[str] = ..., catalog_time_left_ms: _Optional[int] = ..., catalog_trace_id: _Optional[str] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("round", "product_id", "cents")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_ID_FIELD_NUMBER: _ClassVar[int]
    CENTS_FIELD_NUMBER: _ClassVar[int]
    round: int
    product_id: str
    cents: int
    def __init__(self, round: _Optional[int] = ..., product_id: _Optional[str] = ..., cents: _Optional[int] = ...) -> None: ...

class Counter(_message.Message):
    __slots__ = ("round", "cents", "accepted")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CENTS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    round: int
    cents: int
    accepted: bool
    def __init__(self, round: _Optional[int] = ..., cents: _Optional[int] = ..., accepted: bool = ...) -> None: ...
