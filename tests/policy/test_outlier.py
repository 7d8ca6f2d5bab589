"""Outlier detection: Envoy's algorithm on a clock that only this test moves."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshlib.policy.endpoint import EndpointState
from meshlib.policy.outlier import OutlierDetector, OutlierSettings, usable_endpoints


def detector(count: int = 3, **settings_: object) -> tuple[OutlierDetector, list[EndpointState]]:
    endpoints = [EndpointState(f"e{n}") for n in range(count)]
    settings_.setdefault("max_ejection_percent", 100)
    return OutlierDetector(OutlierSettings(**settings_), endpoints, now=0.0), endpoints


def test_consecutive_5xx_eject_at_the_very_answer_that_reaches_the_threshold():
    found, (bad, *_) = detector(consecutive_5xx=3)
    assert [found.record_status(bad, 500, 1.0) for _ in range(2)] == [None, None]
    event = found.record_status(bad, 500, 1.0)
    assert (event.kind, event.endpoint, event.trigger, event.seconds) == ("ejected", "e0", "consecutive 5xx", 30.0)
    assert bad.ejected


def test_one_good_answer_starts_the_count_again():
    found, (bad, *_) = detector(consecutive_5xx=3)
    for status in (500, 500, 200, 500, 500, 404, 500, 500):
        found.record_status(bad, status, 1.0)
    assert not bad.ejected


def test_gateway_errors_have_their_own_count_which_a_500_resets():
    found, (bad, *_) = detector(consecutive_5xx=0, consecutive_gateway=3)
    for status in (503, 502, 500, 504, 503):
        found.record_status(bad, status, 1.0)
    assert not bad.ejected
    assert found.record_status(bad, 502, 1.0).trigger == "consecutive gateway errors"


@pytest.mark.parametrize(("kind", "gateway"), [("connect", True), ("reset", True), ("timeout", True)])
def test_local_failures_count_as_gateway_errors_while_not_split(kind, gateway):
    found, (bad, *_) = detector(consecutive_gateway=2)
    found.record_local_failure(bad, kind, 1.0)
    assert (found.record_local_failure(bad, kind, 1.0) is not None) is gateway


def test_split_local_failures_have_a_count_of_their_own_and_leave_5xx_alone():
    found, (bad, *_) = detector(split_external_local_origin=True, consecutive_local_origin=3, consecutive_5xx=3)
    found.record_local_failure(bad, "connect", 1.0)
    found.record_local_failure(bad, "connect", 1.0)
    found.record_status(bad, 200, 1.0)  # an answer: the connection worked
    found.record_local_failure(bad, "connect", 1.0)
    found.record_local_failure(bad, "connect", 1.0)
    assert not bad.ejected
    assert found.record_local_failure(bad, "connect", 1.0).trigger == "consecutive local-origin failures"


@pytest.mark.parametrize("kind", ["reset", "timeout"])
def test_split_failures_on_connections_that_were_made_do_not_add_up(kind):
    found, (bad, *_) = detector(split_external_local_origin=True, consecutive_local_origin=2)
    found.record_local_failure(bad, "connect", 1.0)
    for _ in range(5):
        assert found.record_local_failure(bad, kind, 1.0) is None
    assert found.record_local_failure(bad, "connect", 1.0) is not None


def test_listed_codes_replace_the_meaning_of_an_error():
    found, (bad, *_) = detector(consecutive_5xx=2, error_codes=frozenset({429}))
    for _ in range(5):
        found.record_status(bad, 503, 1.0)
    assert not bad.ejected
    found.record_status(bad, 429, 1.0)
    assert found.record_status(bad, 429, 1.0) is not None


@pytest.mark.parametrize(
    ("percent", "count", "most"), [(10, 3, 0), (10, 10, 1), (50, 3, 1), (34, 3, 1), (67, 3, 2), (100, 3, 3)]
)
def test_the_share_of_ejected_endpoints_stays_within_the_cap_strictly(percent, count, most):
    found, endpoints = detector(count, consecutive_5xx=1, max_ejection_percent=percent)
    for endpoint in endpoints:
        found.record_status(endpoint, 500, 1.0)
    assert len(found.ejected) == most


def test_always_eject_one_host_is_the_old_behaviour_as_an_option():
    found, endpoints = detector(3, consecutive_5xx=1, max_ejection_percent=10, always_eject_one_host=True)
    for endpoint in endpoints:
        found.record_status(endpoint, 500, 1.0)
    assert len(found.ejected) == 1


def test_an_endpoint_returns_at_an_interval_boundary_and_its_time_grows():
    found, (bad, *_) = detector(consecutive_5xx=1, interval=10.0, base_ejection_time=30.0)
    found.record_status(bad, 500, 5.0)
    assert found.ejected_until(bad) == 35.0
    assert found.tick(39.9) == []
    assert bad.ejected
    (event,) = found.tick(40.0)
    assert (event.kind, event.at, bad.ejected) == ("returned", 40.0, False)
    assert found.record_status(bad, 500, 41.0).seconds == 60.0


def test_the_ejection_time_is_capped():
    found, (bad, *_) = detector(consecutive_5xx=1, interval=1.0, base_ejection_time=100.0, max_ejection_time=250.0)
    now, lengths = 0.5, []
    for _ in range(5):
        lengths.append(found.record_status(bad, 500, now).seconds)
        now += lengths[-1] + 1.0
        found.tick(now)
    assert lengths == [100.0, 200.0, 250.0, 250.0, 250.0]


def test_each_healthy_interval_takes_one_ejection_off_the_account():
    def third_ejection_at(now: float) -> float:
        found, (bad, *_) = detector(consecutive_5xx=1, interval=10.0, base_ejection_time=10.0)
        assert found.record_status(bad, 500, 1.0).seconds == 10.0  # back at 20
        found.tick(20.0)
        assert found.record_status(bad, 500, 21.0).seconds == 20.0  # back at 50
        found.tick(now)
        return found.record_status(bad, 500, now).seconds

    assert third_ejection_at(51.0) == 30.0
    assert third_ejection_at(61.0) == 20.0
    assert third_ejection_at(71.0) == 10.0
    assert third_ejection_at(100_000.0) == 10.0


def test_a_long_silence_costs_no_time():
    found, (bad, *_) = detector(consecutive_5xx=1, interval=0.001, base_ejection_time=30.0)
    found.record_status(bad, 500, 0.0)
    events = found.tick(10_000_000.0)  # ten thousand million intervals
    assert [e.kind for e in events] == ["returned"]
    assert found.next_tick > 10_000_000.0 - 0.001


def test_counters_start_again_after_a_return():
    found, (bad, *_) = detector(consecutive_5xx=2, interval=10.0, base_ejection_time=10.0)
    found.record_status(bad, 500, 1.0)
    found.record_status(bad, 500, 1.0)
    found.record_status(bad, 500, 1.0)  # in flight when it was ejected
    found.tick(30.0)
    assert found.record_status(bad, 500, 31.0) is None


def rates(found, endpoints, failing, volume=100, share=0.5):
    for endpoint in endpoints:
        bad = int(volume * share) if endpoint is failing else 0
        for n in range(volume):
            found.record_status(endpoint, 500 if n < bad else 200, 1.0)
            found.record_status(endpoint, 200, 1.0)


def test_success_rate_ejects_the_one_that_is_worse_than_the_others():
    found, endpoints = detector(6, consecutive_5xx=0, enforcing_success_rate=100)
    rates(found, endpoints, endpoints[2])
    (event,) = found.tick(10.0)
    assert (event.endpoint, event.trigger) == ("e2", "success rate")


def test_success_rate_needs_enough_endpoints_and_requests():
    found, endpoints = detector(4, consecutive_5xx=0, enforcing_success_rate=100)
    rates(found, endpoints, endpoints[0])
    assert found.tick(10.0) == []
    found, endpoints = detector(6, consecutive_5xx=0, enforcing_success_rate=100)
    rates(found, endpoints, endpoints[0], volume=40)
    assert found.tick(10.0) == []


def test_failure_percentage_ejects_whoever_fails_too_often():
    found, endpoints = detector(5, consecutive_5xx=0, enforcing_failure_percentage=100, failure_percentage_threshold=20)
    rates(found, endpoints, endpoints[4])
    (event,) = found.tick(10.0)
    assert (event.endpoint, event.trigger) == ("e4", "failure percentage")


def test_success_rate_and_failure_percentage_are_off_as_in_istio():
    found, endpoints = detector(6, consecutive_5xx=0)
    rates(found, endpoints, endpoints[0], share=1.0)
    assert found.tick(10.0) == []


ACCOUNT = ("consecutive_5xx", "consecutive_gateway", "consecutive_local", "total", "successes", "ejections")
EVENTS = st.one_of(
    st.tuples(st.just("status"), st.sampled_from([200, 204, 404, 499, 500, 502, 503])),
    st.tuples(st.just("failure"), st.sampled_from(["connect", "reset", "timeout"])),
    st.tuples(st.just("wait"), st.just(7.0)),
)
KINDS = [
    {},
    {"split_external_local_origin": True, "consecutive_local_origin": 2},
    {"error_codes": frozenset({404, 503})},
    {"enforcing_success_rate": 100},
    {"enforcing_failure_percentage": 100},
]


@settings(max_examples=120)
@given(st.sampled_from(KINDS), st.lists(st.tuples(st.integers(0, 1), EVENTS), max_size=60))
def test_a_success_of_a_spotless_endpoint_changes_nothing(kind, events):
    """It may be skipped (BoundCluster does): the accounts of two detectors stay equal."""
    sides = [detector(2, consecutive_5xx=3, interval=5.0, base_ejection_time=6.0, **kind) for _ in range(2)]
    now, skipped = 0.0, 0
    for number, (event, what) in events:
        for skips, (found, endpoints) in zip((False, True), sides, strict=True):
            endpoint = endpoints[number]
            if event == "wait":
                found.tick(now + what)
            elif event == "failure":
                found.record_local_failure(endpoint, what, now)
            elif skips and what < 500 and endpoint.spotless:
                skipped += 1
            else:
                found.record_status(endpoint, what, now)
        now += what if event == "wait" else 0.0
        accounts = [
            [(e.ejected, *(getattr(e.outlier, name) for name in ACCOUNT)) for e in endpoints] for _, endpoints in sides
        ]
        assert accounts[0] == accounts[1]
    hypothesis.event(f"skipped: {skipped > 0}")


def test_members_that_stay_keep_their_account():
    found, (bad, other, _) = detector(consecutive_5xx=2)
    found.record_status(bad, 500, 1.0)
    found.update_endpoints([bad, other, EndpointState("new")])
    assert found.record_status(bad, 500, 1.0) is not None


def test_endpoints_that_do_not_serve_or_cannot_be_reached_are_not_usable():
    endpoints = [EndpointState(f"e{n}") for n in range(3)]
    endpoints[0].serving = False
    endpoints[1].avoided = True
    assert usable_endpoints(endpoints, 0) == (endpoints[2],)


def test_usable_endpoints_are_healthy_and_not_ejected_and_panic_takes_all():
    endpoints = [EndpointState(f"e{n}") for n in range(4)]
    endpoints[0].ejected = True
    endpoints[1].healthy = False
    assert usable_endpoints(endpoints, 0) == (endpoints[2], endpoints[3])
    assert usable_endpoints(endpoints, 50) == (endpoints[2], endpoints[3])
    assert usable_endpoints(endpoints, 51) == tuple(endpoints)
    for endpoint in endpoints:
        endpoint.ejected = True
    assert usable_endpoints(endpoints, 0) == ()


class Reference:
    """The algorithm written the naive way: every interval boundary is walked."""

    def __init__(self, count, threshold, interval, base, cap, most):
        self.threshold, self.interval, self.base, self.cap, self.most = threshold, interval, base, cap, most
        self.streak = [0] * count
        self.account = [0] * count
        self.until = [None] * count
        self.boundary = interval

    def catch_up(self, now):
        while self.boundary <= now:
            for n, until in enumerate(self.until):
                if until is not None:
                    if self.boundary >= until:
                        self.until[n], self.streak[n] = None, 0
                elif self.account[n]:
                    self.account[n] -= 1
            self.boundary += self.interval

    def answer(self, n, good, now):
        if good:
            self.streak[n] = 0
            return
        self.streak[n] += 1
        if self.streak[n] != self.threshold:
            return
        self.streak[n] = 0
        out = sum(u is not None for u in self.until)
        if self.until[n] is None and 100.0 * (out + 1) / len(self.until) <= self.most:
            if self.account[n] * self.base < max(self.cap, self.base):
                self.account[n] += 1
            self.until[n] = now + min(self.base * self.account[n], max(self.cap, self.base))


class DetectorAgainstReference(RuleBasedStateMachine):
    @initialize(
        count=st.integers(1, 6),
        threshold=st.integers(1, 3),
        interval=st.sampled_from([1, 5, 10]),
        base=st.sampled_from([1, 7, 30]),
        cap=st.sampled_from([5, 60, 300]),
        most=st.sampled_from([10, 34, 50, 100]),
    )
    def begin(self, count, threshold, interval, base, cap, most):
        self.now = 0
        self.cap = max(cap, base)
        self.most = most
        self.reference = Reference(count, threshold, interval, base, cap, most)
        self.found, self.endpoints = detector(
            count,
            consecutive_5xx=threshold,
            interval=interval,
            base_ejection_time=base,
            max_ejection_time=cap,
            max_ejection_percent=most,
        )

    @rule(n=st.integers(0, 5), good=st.booleans(), times=st.integers(1, 4))
    def answers(self, n, good, times):
        n %= len(self.endpoints)
        for _ in range(times):
            self.found.record_status(self.endpoints[n], 200 if good else 503, self.now)
            self.reference.answer(n, good, self.now)

    @rule(seconds=st.one_of(st.integers(0, 40), st.just(5000)))
    def time_passes(self, seconds):
        self.now += seconds
        if self.now >= self.found.next_tick:
            self.found.tick(self.now)
        self.reference.catch_up(self.now)

    @invariant()
    def same_as_the_reference(self):
        if not hasattr(self, "found"):
            return
        assert [e.ejected for e in self.endpoints] == [u is not None for u in self.reference.until]
        assert [e.outlier.ejections for e in self.endpoints] == self.reference.account
        assert len(self.found.ejected) * 100 <= self.most * len(self.endpoints)
        for endpoint in self.found.ejected:
            assert self.found.ejection_seconds(endpoint) <= self.cap


TestDetectorAgainstReference = DetectorAgainstReference.TestCase
TestDetectorAgainstReference.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
