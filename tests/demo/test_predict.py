"""What is predicted from compiled routes; and that it agrees with what we wrote down by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.snapshot import Snapshot
from meshlib.demo.bookinfo import CONFIG
from meshlib.demo.bookinfo.play.application import REPLICAS, VISITOR
from meshlib.demo.bookinfo.play.mesh_folder import documents, key_of, keys_of
from meshlib.demo.bookinfo.play.predict import Prediction, predict
from meshlib.demo.bookinfo.play.scenarios import SCENARIOS, Scenario
from meshlib.demo.bookinfo.services.serve import workload_of
from meshlib.demo.discovery import endpoint_resources
from meshlib.resources.loader import load_text


def _predict(traffic: bytes, user: str = "") -> Prediction:
    children = [
        SimpleNamespace(service=service, version=version, pod=f"{service}-{version}", host="127.0.0.1", port=9000 + n)
        for n, (service, version) in enumerate(REPLICAS)
    ]
    docs = documents((CONFIG / "application.yaml").read_bytes())
    for child in children:
        docs += endpoint_resources(child, "bookinfo", "http")  # type: ignore[arg-type]
    named = keys_of(traffic)
    docs += [d for d in documents((CONFIG / "destination-rules.yaml").read_bytes()) if key_of(d) not in named]
    loaded = load_text(yaml.safe_dump_all(docs).encode() + b"---\n" + traffic, "all.yaml")
    assert not loaded.errors

    def snapshot_of(service: str, version: str) -> Snapshot:
        return compile_snapshot(loaded.resources, VISITOR if service == "visitor" else workload_of(service, version))

    return predict(snapshot_of, user)


def _virtual_service(host: str, rules: str) -> bytes:
    return (
        f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}}}\n"
        f"spec:\n  hosts: [{host}]\n  http: {rules}\n---\n"
    ).encode()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.file)
def test_prediction_agrees_with_the_hand_written_expectation(scenario: Scenario) -> None:
    for user, wanted in scenario.users.items():
        found = _predict(scenario.path.read_bytes(), user)
        assert found.reviews == pytest.approx(dict(wanted.reviews))
        assert found.details == {"v1": 1.0}
        assert (found.seconds > 1) is wanted.slow


def test_without_rules_every_version_gets_its_share_of_endpoints() -> None:
    found = _predict(b"")
    assert found.reviews == pytest.approx({"v1": 1 / 3, "v2": 1 / 3, "v3": 1 / 3})
    assert found.balanced


def test_an_abort_of_half_the_calls_is_hidden_by_the_second_try_half_of_the_time() -> None:
    fault = "{abort: {httpStatus: 500, percentage: {value: 50}}}"
    rules = f"[{{fault: {fault}, route: [{{destination: {{host: reviews, subset: v1}}}}]}}]"
    assert _predict(_virtual_service("reviews", rules)).reviews == pytest.approx({"v1": 0.75, "unavailable": 0.25})


def test_an_abort_of_details_shows_its_status() -> None:
    rules = "[{fault: {abort: {httpStatus: 555, percentage: {value: 100}}}, route: [{destination: {host: details}}]}]"
    assert _predict(_virtual_service("details", rules)).details == {"unavailable (555)": 1.0}


def test_a_subset_without_pods_is_503() -> None:
    rules = "[{route: [{destination: {host: details, subset: v9}}]}]"
    assert _predict(_virtual_service("details", rules)).details == {"unavailable (503)": 1.0}


def test_no_matching_rule_is_404() -> None:
    rules = "[{match: [{uri: {prefix: /nothing}}], route: [{destination: {host: details}}]}]"
    assert _predict(_virtual_service("details", rules)).details == {"unavailable (404)": 1.0}


def test_a_delay_that_red_reviews_do_not_wait_for_costs_the_stars_only() -> None:
    traffic = _virtual_service("reviews", "[{route: [{destination: {host: reviews, subset: v3}}]}]") + _virtual_service(
        "ratings",
        "[{fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}}, route: [{destination: {host: ratings}}]}]",
    )
    found = _predict(traffic)
    assert found.reviews == {"v3 without ratings": 1.0}
    assert found.seconds == 2.5


def test_a_route_timeout_shorter_than_the_delay_behind_it_loses_the_reviews() -> None:
    traffic = _virtual_service(
        "reviews", "[{timeout: 0.5s, route: [{destination: {host: reviews, subset: v2}}]}]"
    ) + _virtual_service(
        "ratings",
        "[{fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}, route: [{destination: {host: ratings}}]}]",
    )
    found = _predict(traffic)
    assert found.reviews == {"unavailable": 1.0}
    assert found.seconds == 1.0


def test_what_fails_before_productpage_leaves_no_page() -> None:
    rules = (
        "[{fault: {abort: {httpStatus: 503, percentage: {value: 25}}}, route: [{destination: {host: productpage}}]}]"
    )
    found = _predict(_virtual_service("productpage", rules))
    assert found.details == pytest.approx({"v1": 0.75, "no page": 0.25})
    assert found.reviews["no page"] == pytest.approx(0.25)
