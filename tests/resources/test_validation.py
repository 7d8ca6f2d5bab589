"""What Istio's validation refuses is refused here, each with its own code at its own place; old spellings load."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from meshlib.errors import Severity
from meshlib.resources.loader import load_objects
from meshlib.resources.types import Duration, Host

TO = {"destination": {"host": "a"}}


def vs(rule: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    made = {"hosts": ["a"], "http": [{"route": [TO], **rule}] if rule is not None else [{"route": [TO]}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "x"},
        "spec": {**made, **spec},
    }


def bare(rule: dict[str, Any]) -> dict[str, Any]:
    return vs(http=[rule])


def dr(policy: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"host": "a"}
    if policy is not None:
        made["trafficPolicy"] = policy
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "x"},
        "spec": {**made, **spec},
    }


def se(**spec: Any) -> dict[str, Any]:
    made = {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "x"},
        "spec": {**made, **spec},
    }


def problems(resource: dict[str, Any]) -> set[tuple[str, str]]:
    found = load_objects([resource]).errors
    return {(p.code, p.path.rpartition(": ")[2]) for p in found}


def codes(resource: dict[str, Any]) -> set[str]:
    return {code for code, _ in problems(resource)}


REFUSED = {
    "a bare * host in the mesh": (vs(hosts=["*"]), "wildcard-host"),
    "two equal hosts": (vs(hosts=["a", "a"]), "duplicate-host"),
    "an empty host": (vs(hosts=[""]), "missing-host"),
    "a host with a space": (vs(hosts=["a b"]), "bad-host"),
    "hosts as a text": (vs(hosts="a"), "list-expected"),
    "no rules": (vs(http=[]), "no-rules"),
    "a delegate with gateways": (
        {**vs(), "spec": {"gateways": ["g"], "http": [{"route": [TO]}]}},
        "delegate-with-gateways",
    ),
    "a rule without action": (bare({"match": []}), "no-action"),
    "route and redirect": (vs({"redirect": {"uri": "/x"}}), "several-actions"),
    "route and directResponse": (vs({"directResponse": {"status": 200}}), "several-actions"),
    "weights that sum to 0": (bare({"route": [TO, TO]}), "weights-sum-zero"),
    "a negative weight": (bare({"route": [{**TO, "weight": -1}, TO]}), "negative"),
    "a destination without host": (bare({"route": [{"destination": {"subset": "v1"}}]}), "missing-field"),
    "a subset that is no DNS label": (bare({"route": [{"destination": {"host": "a", "subset": "v_1"}}]}), "bad-name"),
    "port 0": (bare({"route": [{"destination": {"host": "a", "port": {"number": 0}}}]}), "bad-port"),
    "a timeout without unit": (vs({"timeout": 5}), "bad-duration"),
    "a timeout of 0s": (vs({"timeout": "0s"}), "duration-too-short"),
    "a timeout of half a millisecond": (vs({"timeout": "1500us"}), "duration-precision"),
    "an unknown retryOn": (vs({"retries": {"attempts": 1, "retryOn": "5xx,foo"}}), "bad-retry-on"),
    "a retryOn with a space": (vs({"retries": {"attempts": 1, "retryOn": "5xx, reset"}}), "bad-retry-on"),
    "attempts 0 with retryOn": (vs({"retries": {"attempts": 0, "retryOn": "5xx"}}), "retries-off-and-on"),
    "a fault of nothing": (vs({"fault": {}}), "empty-fault"),
    "an exponential delay": (vs({"fault": {"delay": {"exponentialDelay": "1s"}}}), "not-supported"),
    "a percentage of 101": (
        vs({"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 101}}}}),
        "bad-percent",
    ),
    "an abort status of 100": (vs({"fault": {"abort": {"httpStatus": 100}}}), "bad-status"),
    "an unknown gRPC status": (vs({"fault": {"abort": {"grpcStatus": "NOPE"}}}), "bad-enum"),
    "an http2Error": (vs({"fault": {"abort": {"http2Error": "X"}}}), "not-supported"),
    "a redirect code of 200": (bare({"redirect": {"uri": "/", "redirectCode": 200}}), "bad-status"),
    "a redirect to ftp": (bare({"redirect": {"scheme": "ftp"}}), "bad-enum"),
    "redirect port and derivePort": (
        bare({"redirect": {"port": 1, "derivePort": "FROM_REQUEST_PORT"}}),
        "crd-one-of",
    ),
    "two rewrites": (
        vs({"rewrite": {"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}}),
        "several-rewrites",
    ),
    "a rewrite of nothing": (vs({"rewrite": {}}), "empty-rewrite"),
    "mirror and mirrors": (vs({"mirror": {"host": "b"}, "mirrors": [TO]}), "several-mirrors"),
    "exact and prefix": (vs({"match": [{"uri": {"exact": "/", "prefix": "/"}}]}), "crd-one-of"),
    "a regex with look-ahead": (vs({"match": [{"uri": {"regex": "(?=x)"}}]}), "bad-regex"),
    "a regex of 2,000 characters": (vs({"match": [{"uri": {"regex": "a" * 2000}}]}), "bad-regex"),
    "an empty prefix of a method": (vs({"match": [{"method": {"prefix": ""}}]}), "empty-prefix"),
    "an empty prefix of a header": (vs({"match": [{"headers": {"x": {"prefix": ""}}}]}), "empty-prefix"),
    "the pseudo-regex * in headers": (vs({"match": [{"headers": {"x": {"regex": "*"}}}]}), "bad-regex"),
    "a header name with a space": (vs({"match": [{"headers": {"a b": {"exact": "1"}}}]}), "bad-header-name"),
    "an unknown field": (vs({"retires": {}}), "unknown-field"),
    "a misplaced weight": (bare({"route": [{"destination": {"host": "a", "weight": 1}}]}), "unknown-field"),
    "a number where a text belongs": (vs({"match": [{"headers": {"x": {"exact": 1.10}}}]}), "wrong-type"),
    "a DestinationRule without host": (
        {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "x"}, "spec": {}},
        "missing-field",
    ),
    "two subsets of one name": (dr(subsets=[{"name": "v1"}, {"name": "v1"}]), "duplicate-subset"),
    "a policy of nothing": (dr({}), "empty-policy"),
    "two balancers": (
        dr({"loadBalancer": {"simple": "RANDOM", "consistentHash": {"useSourceIp": True}}}),
        "crd-one-of",
    ),
    "a hash of two things": (
        dr({"loadBalancer": {"consistentHash": {"useSourceIp": True, "httpHeaderName": "x"}}}),
        "crd-one-of",
    ),
    "an unknown balancer": (dr({"loadBalancer": {"simple": "FASTEST"}}), "bad-enum"),
    "a negative limit": (dr({"connectionPool": {"tcp": {"maxConnections": -1}}}), "negative"),
    "an ejection share of 101": (dr({"outlierDetection": {"maxEjectionPercent": 101}}), "bad-percent"),
    "MUTUAL without certificate": (dr({"tls": {"mode": "MUTUAL"}}), "tls-files"),
    "skipping and verifying": (
        dr({"tls": {"mode": "SIMPLE", "insecureSkipVerify": True, "caCertificates": "a"}}),
        "tls-skip-verify",
    ),
    "a port level without port": (dr({"portLevelSettings": [{"loadBalancer": {"simple": "RANDOM"}}]}), "missing-field"),
    "tunnel and proxyProtocol": (
        dr({"tunnel": {"targetHost": "a", "targetPort": 1}, "proxyProtocol": {"version": "V1"}}),
        "tunnel-and-proxy-protocol",
    ),
    "a ServiceEntry for *": (se(hosts=["*"]), "wildcard-host"),
    "a ServiceEntry for nobody": (se(hosts=[]), "missing-host"),
    "two ports of one number": (
        se(ports=[{"number": 80, "name": "a"}, {"number": 80, "name": "b"}]),
        "duplicate-port",
    ),
    "endpoints with resolution NONE": (se(endpoints=[{"address": "1.2.3.4"}]), "resolution-none"),
    "a name with resolution STATIC": (se(resolution="STATIC", endpoints=[{"address": "b.c"}]), "resolution-static"),
    "two endpoints with DNS_ROUND_ROBIN": (
        se(resolution="DNS_ROUND_ROBIN", endpoints=[{"address": "a.b"}, {"address": "c.d"}]),
        "too-many-endpoints",
    ),
    "a wildcard resolved by DNS": (se(hosts=["*.a.b"], resolution="DNS"), "wildcard-dns"),
    "an endpoint's unknown port": (
        se(resolution="STATIC", endpoints=[{"address": "1.2.3.4", "ports": {"nope": 1}}]),
        "unknown-port",
    ),
    "endpoints and selector": (
        se(resolution="STATIC", endpoints=[{"address": "1.2.3.4"}], workloadSelector={"labels": {"a": "b"}}),
        "several-sources",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(what):
    resource, code = REFUSED[what]
    assert code in codes(resource)


@pytest.mark.parametrize("what", list(REFUSED))
def test_every_refusal_names_its_place_below_spec(what):
    resource, code = REFUSED[what]
    assert all(path.startswith("spec") for found, path in problems(resource) if found == code)


def test_good_resources_of_each_kind_have_no_errors():
    for resource in (vs(), dr(), se(), vs({"timeout": "1.5s"}), dr({"loadBalancer": {"simple": "RANDOM"}})):
        assert problems(resource) == set()


ACCEPTED = {
    "an empty uri prefix": vs({"match": [{"uri": {"prefix": ""}}]}),
    "header presence": vs({"match": [{"headers": {"x": {}}}]}),
    "the pseudo-regex * in withoutHeaders": vs({"match": [{"withoutHeaders": {"x": {"regex": "*"}}}]}),
    "weights that do not sum to 100": bare({"route": [{**TO, "weight": 1}, {**TO, "weight": 3}]}),
    "a sole destination of weight 0": bare({"route": [{**TO, "weight": 0}]}),
    "a wildcard host": vs(hosts=["*.example.com"]),
    "the host * at a gateway": vs(hosts=["*"], gateways=["g"]),
    "a delegate": {**vs(), "spec": {"http": [{"route": [TO]}]}},
    "an enum by number": dr({"loadBalancer": {"simple": 2}}),
    "snake_case": vs({"mirror": {"host": "b"}, "mirror_percent": 5}),
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what):
    assert problems(ACCEPTED[what]) == set()


OLD = {
    "fault.delay.percent": (
        vs({"fault": {"delay": {"percent": 10, "fixedDelay": "1s"}}}),
        lambda r: r.spec.http[0].fault.delay.percentage.value,
        10.0,
    ),
    "fault.abort.percent": (
        vs({"fault": {"abort": {"percent": 10, "httpStatus": 500}}}),
        lambda r: r.spec.http[0].fault.abort.percentage.value,
        10.0,
    ),
    "consecutiveErrors": (
        dr({"outlierDetection": {"consecutiveErrors": 7, "maxEjectionPercent": 50}}),
        lambda r: r.spec.traffic_policy.outlier_detection.consecutive_gateway_errors,
        7,
    ),
    "LEAST_CONN": (
        dr({"loadBalancer": {"simple": "LEAST_CONN"}}),
        lambda r: r.spec.traffic_policy.load_balancer.simple,
        "LEAST_CONN",
    ),
    "mirrorPercent": (vs({"mirror": {"host": "b"}, "mirrorPercent": 3}), lambda r: r.spec.http[0].mirror_percent, 3),
}


@pytest.mark.parametrize("name", list(OLD))
def test_old_spellings_load_with_a_deprecation_notice_that_names_the_new_one(name):
    resource, read, value = OLD[name]
    result = load_objects([resource])
    assert result.errors == []
    assert read(result.resources[0]) == value
    (notice,) = [p for p in result.problems if p.code == "deprecated"]
    assert notice.severity is Severity.NOTICE
    assert notice.hint.startswith("write ")


@pytest.mark.parametrize("version", ["v1alpha3", "v1beta1"])
def test_old_versions_load_with_a_notice(version):
    resource = {**vs(), "apiVersion": f"networking.istio.io/{version}"}
    (notice,) = load_objects([resource]).problems
    assert (notice.code, notice.hint) == ("deprecated", "write apiVersion: networking.istio.io/v1")


def test_a_fault_without_percentage_is_warned_about():
    (problem,) = load_objects([vs({"fault": {"abort": {"httpStatus": 500}}})]).problems
    assert (problem.code, problem.severity) == ("fault-never", Severity.WARNING)


@given(st.integers(1, 10**6))
def test_durations_are_seconds_whatever_the_unit(milliseconds):
    read = TypeAdapter(Duration).validate_python
    assert read(f"{milliseconds}ms") == pytest.approx(milliseconds / 1000)
    assert read(f"{milliseconds}s") == milliseconds
    assert read(f"{milliseconds}m") == milliseconds * 60
    assert read(f"{milliseconds}h{milliseconds}s") == milliseconds * 3601


@pytest.mark.parametrize("text", ["9" * 400 + "s", "2500001h", "1000000000000000000ns9000000000s", "\u0663s"])
def test_a_duration_that_no_clock_can_hold_is_refused(text):
    with pytest.raises(ValidationError, match="is not a duration|longer than 285 years"):
        TypeAdapter(Duration).validate_python(text)


@given(st.text(max_size=12))
def test_no_text_makes_the_duration_reader_do_anything_but_read_or_refuse(text):
    try:
        assert TypeAdapter(Duration).validate_python(text) >= 0.001
    except ValidationError as error:
        assert error.errors()[0]["type"] in ("bad-duration", "duration-too-short", "duration-precision")


@given(st.text(max_size=20))
def test_no_text_makes_the_host_reader_do_anything_but_read_or_refuse(text):
    try:
        TypeAdapter(Host).validate_python(text)
    except ValidationError as error:
        assert error.errors()[0]["type"] in ("bad-host", "missing-host")


@given(st.dictionaries(st.sampled_from(["exact", "prefix", "regex"]), st.text(max_size=10), max_size=3))
def test_a_string_match_has_one_condition_at_most(fields):
    assert ("crd-one-of" in codes(vs({"match": [{"uri": fields}]}))) == (len(fields) > 1)
