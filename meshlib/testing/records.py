"""What happened to a call, whatever a test holds of it: a response, an exception, a gRPC call, or the record itself."""

from __future__ import annotations

from meshlib.engine.explanation import Exchange


def record_of(what: object) -> Exchange:
    """The ``meshlib.Exchange`` of a call. ``what`` is its httpx response, an exception that it raised (or pytest's
    ``ExceptionInfo``), a gRPC call, or an ``Exchange``. Raises TypeError for anything else."""
    if isinstance(what, Exchange):
        return what
    extensions = getattr(what, "extensions", None)
    if isinstance(extensions, dict) and isinstance(extensions.get("mesh"), Exchange):
        found: Exchange = extensions["mesh"]
        return found
    inner = getattr(what, "value", None) if type(what).__name__ == "ExceptionInfo" else what
    record = getattr(inner, "exchange", None)
    if isinstance(record, Exchange):
        return record
    raise TypeError(
        f"{what!r} is not a call through the mesh: pass its response, its exception or its gRPC call "
        "(of a blocking unary gRPC call: what `stub.Method.with_call(request)` returns second)"
    )
