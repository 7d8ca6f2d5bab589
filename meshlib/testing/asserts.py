"""Assertions on calls. What they say when they fail is the call's own explanation, attempt by attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.registry.names import dial_names
from meshlib.testing.records import record_of

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange


def assert_attempts(call: object, count: int) -> None:
    """The call took ``count`` attempts: 1 for one without retries, 0 for one that was never sent. ``call`` is a response, an
    exception, a gRPC call or a ``meshlib.Exchange``. Raises AssertionError with the whole story, TypeError for what is no
    call."""
    __tracebackhide__ = True
    record = record_of(call)
    made = len(record.attempts)
    if made != count:
        raise AssertionError(f"expected {_attempts(count)}, there {'was' if made == 1 else 'were'} {made}:\n{record}")


def assert_routed_to(
    call: object, host: str, subset: str | None = None, *, endpoint: str | None = None, rule: int | str | None = None
) -> None:
    """The mesh routed the call to ``host`` (any name that a client may use: ``reviews``, ``reviews.shop``, the full name).

    If they are given, also to this ``subset`` ("" for none), by this ``rule`` (its position in ``spec.http``, or its name),
    and the last attempt went to this ``endpoint`` (``127.0.0.1:9081``). Raises AssertionError with the whole story, TypeError
    for what is no call."""
    __tracebackhide__ = True
    record = record_of(call)
    wrong = []
    if not names(record.host, host):
        wrong.append(f"host {host}, it went to {record.host}")
    if subset is not None and record.subset != subset:
        wrong.append(f"subset {subset or '(none)'}, it went to {record.subset or '(none)'}")
    if endpoint is not None and record.endpoint != endpoint:
        wrong.append(f"endpoint {endpoint}, it went to {record.endpoint or '(none)'}")
    if rule is not None and rule not in (record.rule, record.rule_name):
        taken = "none" if record.rule is None else f"{record.rule} {record.rule_name}".rstrip()
        wrong.append(f"rule {rule}, taken was {taken}")
    if wrong:
        raise AssertionError(f"expected {'; expected '.join(wrong)}:\n{record}")


def names(full: str, name: str, namespace: str | None = None) -> bool:
    """Whether ``name`` is a name of the host ``full``. ``namespace``: the client's, whose services have short names; None:
    any."""
    labels = full.split(".")
    own = labels[1] if namespace is None and len(labels) > 1 else namespace
    return name.lower().removesuffix(".") in dial_names(full, own or "")


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def told(record: Exchange) -> str:
    """The story of a call on one line, for lists."""
    where = f"{record.host}/{record.subset}" if record.subset else record.host
    tries = ", ".join(f"{a.endpoint} {a.failure or a.status}" for a in record.attempts)
    return f"{where}: {tries or 'not sent'}{f' ({record.flags})' if record.flags else ''}"
