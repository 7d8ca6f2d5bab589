"""Outlier detection (DestinationRule ``outlierDetection``) with Envoy's algorithm and all five of its triggers.

Consecutive 5xx, consecutive gateway errors and consecutive local-origin failures eject at the moment their counter
reaches the threshold; success rate and failure percentage are judged at each interval (Istio leaves those two off). An
ejected endpoint comes back at an interval boundary once ``base_ejection_time * n`` has passed, n being the ejections it
still has on its account. There is no timer: ``tick`` catches up with the boundaries that have gone by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshlib.policy.endpoint import EndpointState, OutlierAccount, those_usable

GATEWAY_ERRORS = (502, 503, 504)
LOCAL_CODE = {"connect": 503, "reset": 503, "timeout": 504}
"""The status that a local-origin failure counts as while it is not split from the endpoint's own responses."""


@dataclass(frozen=True, slots=True)
class OutlierSettings:
    """Times in seconds, shares in percent; 0 as a count turns a trigger off. Defaults are Istio's."""

    consecutive_5xx: int = 5
    consecutive_gateway: int = 0
    consecutive_local_origin: int = 5
    split_external_local_origin: bool = False
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_percent: int = 10
    min_health_percent: int = 0
    always_eject_one_host: bool = False
    error_codes: frozenset[int] | None = None
    """Istio's ``outlierDetectionHttpErrorCodes``: the only codes that count, instead of all 5xx."""
    enforcing_success_rate: int = 0
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    success_rate_stdev_factor: int = 1900
    enforcing_failure_percentage: int = 0
    failure_percentage_threshold: int = 85
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50


@dataclass(frozen=True, slots=True)
class Ejection:
    """Something to tell the operator: ``kind`` is "ejected" or "returned"; ``trigger`` what did it; ``seconds`` for how
    long at least; ``at`` in the caller's clock."""

    kind: str
    endpoint: str
    trigger: str
    at: float
    seconds: float = 0.0


class OutlierDetector:
    """One cluster's detector; the caller holds the cluster's lock."""

    __slots__ = ("_count_success", "_endpoints", "_forgets", "next_tick", "settings")

    def __init__(self, settings: OutlierSettings, endpoints: Iterable[EndpointState], now: float) -> None:
        self.settings = settings
        self._endpoints: list[EndpointState] = []
        self.next_tick = now + settings.interval
        self._count_success = bool(settings.enforcing_success_rate or settings.enforcing_failure_percentage)
        self._forgets = not self._count_success and settings.error_codes is None  # all that a response below 500 does
        self.update_endpoints(endpoints)

    def update_endpoints(self, endpoints: Iterable[EndpointState]) -> None:
        """The cluster's members changed; accounts stay with those that remain."""
        self._endpoints = list(endpoints)
        for endpoint in [e for e in self._endpoints if e.outlier is None]:
            endpoint.outlier = OutlierAccount()
            endpoint.spotless = False

    # -- results ----------------------------------------------------------------------------------------------------

    def record_status(self, endpoint: EndpointState, status: int, now: float) -> Ejection | None:
        """A response with this HTTP status (gRPC statuses are mapped to HTTP before)."""
        host = endpoint.outlier or self._adopt(endpoint)
        settings = self.settings
        if settings.split_external_local_origin:
            host.consecutive_local = 0
        codes = settings.error_codes
        if status < 500 if codes is None else status not in codes:
            host.consecutive_5xx = host.consecutive_gateway = 0
            endpoint.spotless = self._forgets
            if self._count_success:
                host.total += 1
                host.successes += 1
            return None
        endpoint.spotless = False
        if self._count_success:
            host.total += 1
        gateway = status in GATEWAY_ERRORS
        if gateway:
            host.consecutive_gateway += 1
        else:
            host.consecutive_gateway = 0
        host.consecutive_5xx += 1
        if gateway and host.consecutive_gateway == settings.consecutive_gateway:
            host.consecutive_gateway = 0
            event = self._eject(endpoint, "consecutive gateway errors", now)
            if event is not None:
                return event
        if host.consecutive_5xx == settings.consecutive_5xx:
            host.consecutive_5xx = 0
            return self._eject(endpoint, "consecutive 5xx", now)
        return None

    def record_local_failure(self, endpoint: EndpointState, kind: str, now: float) -> Ejection | None:
        """No response: ``kind`` is "connect", "reset" or "timeout"."""
        settings = self.settings
        if not settings.split_external_local_origin:
            return self.record_status(endpoint, LOCAL_CODE[kind], now)
        host = endpoint.outlier or self._adopt(endpoint)
        endpoint.spotless = False
        if kind != "connect":
            host.consecutive_local = 0  # the request had a connection, which in Envoy ends the row of local failures
        host.consecutive_local += 1
        if host.consecutive_local == settings.consecutive_local_origin:
            host.consecutive_local = 0
            return self._eject(endpoint, "consecutive local-origin failures", now)
        return None

    def _adopt(self, endpoint: EndpointState) -> OutlierAccount:
        # a response of an endpoint that a reload removed meanwhile: counted, though nobody will pick it again
        host = endpoint.outlier = OutlierAccount()
        return host

    # -- ejection ---------------------------------------------------------------------------------------------------

    @property
    def ejected(self) -> list[EndpointState]:
        """Those out of use now."""
        return [endpoint for endpoint in self._endpoints if endpoint.ejected]

    def may_eject(self) -> bool:
        """Whether one more ejection stays within ``max_ejection_percent``."""
        total = len(self._endpoints)
        ejected = len(self.ejected)
        if ejected == 0 and self.settings.always_eject_one_host:
            return total > 0
        return total > 0 and 100.0 * (ejected + 1) / total <= self.settings.max_ejection_percent

    def ejection_seconds(self, endpoint: EndpointState) -> float:
        """How long this ejection lasts at least."""
        settings = self.settings
        host = endpoint.outlier or self._adopt(endpoint)
        most = max(settings.max_ejection_time, settings.base_ejection_time)
        return min(settings.base_ejection_time * host.ejections, most)

    def ejected_until(self, endpoint: EndpointState) -> float | None:
        """When it may come back (at the next interval boundary after this), None when it is in use."""
        if not endpoint.ejected:
            return None
        host = endpoint.outlier or self._adopt(endpoint)
        return host.ejected_at + self.ejection_seconds(endpoint)

    def _eject(self, endpoint: EndpointState, trigger: str, now: float) -> Ejection | None:
        if endpoint.ejected or endpoint not in self._endpoints or not self.may_eject():
            return None
        host = endpoint.outlier or self._adopt(endpoint)
        settings = self.settings
        most = max(settings.max_ejection_time, settings.base_ejection_time)
        if host.ejections * settings.base_ejection_time < most:
            host.ejections += 1
        host.ejected_at = now
        endpoint.ejected = True
        return Ejection("ejected", endpoint.key, trigger, now, self.ejection_seconds(endpoint))

    # -- intervals --------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Ejection]:
        """Do what each interval boundary up to ``now`` would have done. Bounded work however long nobody called: once
        every endpoint is back and every account is clear, further boundaries change nothing and are skipped."""
        events: list[Ejection] = []
        interval = self.settings.interval
        while self.next_tick <= now:
            at = self.next_tick
            self.next_tick = at + interval
            changed = self._boundary(at, events)
            if not changed and not self.ejected:
                missed = math.floor((now - self.next_tick) / interval) + 1
                if missed > 0:
                    self.next_tick += missed * interval
                break
            if not changed:
                # only waiting for ejections to end: jump to the boundary where the first of them does
                soonest = min(self.ejected_until(e) or at for e in self.ejected)
                skip = math.floor((min(soonest, now) - self.next_tick) / interval)
                if skip > 0:
                    self.next_tick += skip * interval
        return events

    def _boundary(self, at: float, events: list[Ejection]) -> bool:
        changed = False
        for endpoint in self._endpoints:
            host = endpoint.outlier or self._adopt(endpoint)
            if endpoint.ejected:
                if at >= host.ejected_at + self.ejection_seconds(endpoint):
                    endpoint.ejected = False
                    host.reset_counters()
                    events.append(Ejection("returned", endpoint.key, "ejection time is over", at))
                    changed = True
            elif host.ejections > 0:
                host.ejections -= 1
                changed = True
        if self._count_success:
            changed = self._judge_rates(at, events) or changed
        return changed

    def _judge_rates(self, at: float, events: list[Ejection]) -> bool:
        settings = self.settings
        before = len(events)
        if settings.enforcing_success_rate:
            self._judge_success_rate(at, events)
        if settings.enforcing_failure_percentage:
            voting = self._voting(settings.failure_percentage_request_volume)
            if len(voting) >= settings.failure_percentage_minimum_hosts:
                for endpoint, rate in voting:
                    if 100.0 - rate >= settings.failure_percentage_threshold:
                        self._append(events, self._eject(endpoint, "failure percentage", at))
        counted = False
        for endpoint in self._endpoints:
            host = endpoint.outlier or self._adopt(endpoint)
            counted = counted or host.total > 0
            host.total = host.successes = 0
        return counted or len(events) > before

    def _judge_success_rate(self, at: float, events: list[Ejection]) -> None:
        settings = self.settings
        voting = self._voting(settings.success_rate_request_volume)
        if len(voting) < max(settings.success_rate_minimum_hosts, 1):
            return
        mean = sum(rate for _, rate in voting) / len(voting)
        deviation = math.sqrt(sum((rate - mean) ** 2 for _, rate in voting) / len(voting))
        threshold = mean - deviation * settings.success_rate_stdev_factor / 1000.0
        for endpoint, rate in voting:
            if rate < threshold:
                self._append(events, self._eject(endpoint, "success rate", at))

    def _voting(self, volume: int) -> list[tuple[EndpointState, float]]:
        return [
            (e, 100.0 * account.successes / account.total)
            for e in self._endpoints
            if not e.ejected and (account := e.outlier) is not None and account.total >= max(volume, 1)
        ]

    @staticmethod
    def _append(events: list[Ejection], event: Ejection | None) -> None:
        if event is not None:
            events.append(event)


def usable_endpoints(endpoints: Sequence[EndpointState], panic_percent: int) -> tuple[EndpointState, ...]:
    """Those that may be picked: healthy, serving, not ejected and not known to be unreachable while others are not; all of
    them (Envoy's panic mode) when fewer than ``panic_percent`` are usable. 0, Istio's default, never panics."""
    usable = tuple(those_usable(endpoints))
    if panic_percent and endpoints and 100.0 * len(usable) / len(endpoints) < panic_percent:
        return tuple(endpoints)
    return usable
