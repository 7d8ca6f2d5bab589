"""The faults that EnvoyFilters inject at a workload's server: ``envoy.filters.http.fault``, merged or inserted."""

from __future__ import annotations

import re
from collections.abc import Mapping

from meshlib.compiler.envoy_values import NotActedOn
from meshlib.policy.fault import MILLION, FaultPolicy
from meshlib.policy.grpc_status import NAMES, http_of_grpc

FAULT = "envoy.filters.http.fault"
_TYPE = "envoy.extensions.filters.http.fault.v3.HTTPFault"
_OLD_TYPE = "envoy.config.filter.http.fault.v2.HTTPFault"
_UNITS = {"HUNDRED": MILLION // 100, "TEN_THOUSAND": MILLION // 10_000, "MILLION": 1}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_ONE_OF = {"abort": ("http_status", "grpc_status", "header_abort"), "delay": ("fixed_delay", "header_delay")}


class Faults:
    """Those of one workload, as its EnvoyFilters are gone through in order."""

    def __init__(self) -> None:
        # Istio's chain has a fault filter that does nothing until something is merged into it
        self._built_in: dict[str, object] = {}
        self._inserted: list[dict[str, object]] = []
        self._sources: list[str] = []

    def add(self, operation: str, kind: str, fault: dict[str, object], source: str) -> None:
        """A patch of the fault filter, of type ``kind``, by the resource ``source`` ("": it is not for this workload). Raises
        ``NotActedOn``, also to workloads that it is not for."""
        if kind not in (_TYPE, _OLD_TYPE):
            raise NotActedOn(f"its typed_config is of type {kind or None}, not {_TYPE}")
        unknown = sorted(set(fault) - {"delay", "abort"})
        if unknown:
            raise NotActedOn(
                f"{', '.join(unknown)} of HTTPFault: a fault that should be narrower is not injected at all"
            )
        _policy(fault)
        if not source:
            return
        if operation == "MERGE":
            for target in (self._built_in, *self._inserted):
                _merge(target, fault)
        else:
            self._inserted.append(_merge({}, fault))
        self._sources.append(source)

    def policies(self) -> tuple[tuple[FaultPolicy, ...], tuple[str, ...]]:
        """The faults that are injected, and the resources that they come from."""
        policies = [_policy(settings) for settings in (self._built_in, *self._inserted)]
        faults = tuple(policy for policy in policies if policy.delay_share or policy.abort_share)
        return faults, tuple(dict.fromkeys(self._sources)) if faults else ()


def _merge(target: dict[str, object], more: Mapping[str, object], path: str = "") -> dict[str, object]:
    """As protobuf merges messages: set fields win, messages are merged, of a oneof the last one set stays."""
    for key, value in more.items():
        for other in _ONE_OF.get(path, ()):
            if other != key and key in _ONE_OF[path]:
                target.pop(other, None)
        if isinstance(value, Mapping):
            kept = target.get(key)
            target[key] = _merge(dict(kept) if isinstance(kept, Mapping) else {}, value, key)
        else:
            target[key] = value
    return target


def _policy(settings: Mapping[str, object]) -> FaultPolicy:
    """HTTPFault as this engine injects it. Raises ``NotActedOn`` for values that Envoy would not take."""
    delay, abort = _message(settings, "delay"), _message(settings, "abort")
    seconds, status = 0.0, 0
    grpc: int | None = None
    if "fixed_delay" in delay:
        found = _DURATION.fullmatch(str(delay["fixed_delay"]))
        if found is None:
            raise NotActedOn(f"delay.fixed_delay {delay['fixed_delay']!r} is not a valid duration, such as 2s or 0.5s")
        seconds = float(found[1])
    if "http_status" in abort:
        status = _number(abort["http_status"], "abort.http_status", 200, 599)
    elif "grpc_status" in abort:
        grpc = _number(abort["grpc_status"], "abort.grpc_status", 0, len(NAMES) - 1)
        status = http_of_grpc(grpc)
    _only(delay, "delay", "fixed_delay", "header_delay", "percentage")
    _only(abort, "abort", "http_status", "grpc_status", "header_abort", "percentage")
    header_delay, header_abort = "header_delay" in delay, "header_abort" in abort
    delay_share, delay_unit = _share(delay, "delay")
    abort_share, abort_unit = _share(abort, "abort")
    return FaultPolicy(
        seconds,
        delay_share if seconds or header_delay else 0,
        status,
        grpc,
        abort_share if status or header_abort else 0,
        header_delay,
        header_abort,
        delay_unit if header_delay else MILLION // 100,
        abort_unit if header_abort else MILLION // 100,
    )


def _message(settings: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = settings.get(name, {})
    if not isinstance(found, Mapping):
        raise NotActedOn(f"{name} is not an object")
    return found


def _only(settings: Mapping[str, object], name: str, *known: str) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise NotActedOn(f"{name}.{', '.join(unknown)} of HTTPFault")


def _share(settings: Mapping[str, object], name: str) -> tuple[int, int]:
    """Millionths, and how many of them one of the numerator is. Absent: none, as in Envoy."""
    percentage = _message(settings, "percentage")
    _only(percentage, f"{name}.percentage", "numerator", "denominator")
    denominator = percentage.get("denominator", "HUNDRED")
    unit = _UNITS.get(denominator) if isinstance(denominator, str) else None
    if unit is None:
        raise NotActedOn(f"{name}.percentage.denominator {denominator!r}: HUNDRED, TEN_THOUSAND or MILLION")
    return _number(percentage.get("numerator", 0), f"{name}.percentage.numerator", 0, 2**32 - 1) * unit, unit


def _number(value: object, name: str, low: int, high: int) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise NotActedOn(f"{name} {value!r} is not a whole number from {low} to {high}")
    return number
