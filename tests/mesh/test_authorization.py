"""AuthorizationPolicies in a mesh at work: at ASGI applications, over reloads, and when an edit breaks them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.testclient import TestClient

import meshlib
from tests.support.fake_clock import FakeClock


def policy(*rules: Any, name: str = "p", action: str = "DENY", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": action, "rules": list(rules), **spec},
    }


NO_ADMIN = policy({"to": [{"operation": {"paths": ["/admin*"]}}]}, name="no-admin")


def write(path: Path, *documents: dict[str, Any] | str) -> None:
    text = "\n---\n".join(d if isinstance(d, str) else json.dumps(d) for d in documents)
    temporary = path.with_name("." + path.name)
    temporary.write_text(text)
    os.replace(temporary, path)


class Counting:
    """An application that counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "mesh.json", NO_ADMIN)
    return tmp_path


def client(mesh: meshlib.Mesh) -> tuple[TestClient, Counting]:
    application = Counting()
    return TestClient(meshlib.MeshASGIMiddleware(application, mesh)), application  # type: ignore[arg-type]


def test_a_denied_request_is_not_served_and_does_not_learn_why(caplog: pytest.LogCaptureFixture) -> None:
    with meshlib.Mesh.from_resources([NO_ADMIN]) as mesh, caplog.at_level(logging.INFO, "meshlib.inbound"):
        asking, application = client(mesh)
        for path in ("/admin", "//admin", "/%61dmin", "/x/..%2fadmin"):
            response = asking.get(f"http://app.test{path}")
            assert (response.status_code, response.text) == (403, "RBAC: access denied"), path
            assert "no-admin" not in str(response.headers)
        assert application.calls == 0
        assert asking.get("http://app.test/public").text == "served"
    assert any("rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]" in m for m in caplog.messages)


def test_apply_changes_who_may_come_in() -> None:
    with meshlib.Mesh.from_resources([NO_ADMIN]) as mesh:
        asking, _ = client(mesh)
        assert asking.get("/admin").status_code == 403
        mesh.apply([policy(action="ALLOW")])
        assert asking.get("/public").status_code == 403
        mesh.apply([])
        assert asking.get("/admin").status_code == 200


def test_an_edit_that_breaks_a_policy_keeps_its_last_good_version(folder: Path) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=FakeClock()) as mesh:
        asking, _ = client(mesh)
        twice = json.dumps(NO_ADMIN).replace('"action"', '"action": "AUDIT", "action"')
        for broken in (policy({"too": []}, name="no-admin"), json.dumps(NO_ADMIN)[:-5], twice):
            write(folder / "mesh.json", broken)
            mesh.reload()
            assert asking.get("/admin").status_code == 403
            assert asking.get("/public").status_code == 200


TYPO = policy({"to": [{"operation": {"paths": "/secret"}}]}, name="new")


@pytest.mark.parametrize(
    "broken",
    [
        TYPO,
        policy({"when": [{"key": "nonsense", "values": ["x"]}]}, name="new"),
        policy({}, name="new", selector={"matchLabels": {}}, action="Deny"),
        {**TYPO, "apiVersion": "security.istio.io/v9"},
        json.dumps(TYPO)[:-5],
    ],
)
def test_while_a_new_policy_is_broken_everything_that_it_may_have_refused_is_refused(
    folder: Path, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=FakeClock()) as mesh:
        asking, application = client(mesh)
        write(folder / "new.json", broken)
        for _ in range(2):  # and it stays so
            mesh.reload()
            assert asking.get("/public").status_code == 403
        assert application.calls == 0
        assert any(p.code == "refuses-everything" and p.path.endswith("/new") for p in mesh.problems)
        assert any("everything that it may have refused is refused" in message for message in caplog.messages)
        write(folder / "new.json", policy({"to": [{"operation": {"paths": ["/secret"]}}]}, name="new"))
        mesh.reload()
        assert [asking.get(path).status_code for path in ("/public", "/secret")] == [200, 403]
        assert not any(p.code == "refuses-everything" for p in mesh.problems)


@pytest.mark.parametrize(
    "broken",
    [
        {**TYPO, "metadata": {"name": "new", "namespace": "elsewhere"}},
        policy({"to": 5}, name="new", selector={"matchLabels": {"app": "other"}}),
        policy({"to": 5}, name="new", action="AUDIT"),
    ],
)
def test_a_broken_policy_that_could_not_have_refused_anything_here_refuses_nothing(folder: Path, broken: Any) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=FakeClock()) as mesh:
        asking, _ = client(mesh)
        write(folder / "new.json", broken)
        mesh.reload()
        assert [asking.get(path).status_code for path in ("/public", "/admin")] == [200, 403]


def test_dry_runs_and_audits_are_counted() -> None:
    tried = policy({"to": [{"operation": {"paths": ["/admin*"]}}]}, name="tried")
    tried["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    with meshlib.Mesh.from_resources([tried, policy({}, name="watch", action="AUDIT")]) as mesh:
        asking, application = client(mesh)
        assert asking.get("/admin").status_code == 200
        assert application.calls == 1
        counts = mesh._core.inbound.authorization
        assert counts.of("dry_run_denied") == {"default/tried": 1}
        assert counts.of("audited") == {"default/watch": 1}


def test_what_dry_runs_would_have_decided_is_in_prometheus() -> None:
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([policy({}, name="acts")], registry=registry) as mesh:
        client(mesh)[0].get("/admin")
        assert "dry_run" not in generate_latest(registry).decode(), "nothing is on trial"
    denies = policy({"to": [{"operation": {"paths": ["/admin*"]}}]}, name="denies")
    allows = policy({"to": [{"operation": {"paths": ["/a*"]}}]}, name="allows", action="ALLOW")
    for each in (denies, allows):
        each["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    with meshlib.Mesh.from_resources([denies, allows], registry=registry) as mesh:
        asking, _ = client(mesh)
        assert {asking.get(path).status_code for path in ("/admin", "/admin/1", "/about", "/other")} == {200}
        text = generate_latest(registry).decode()
    found = [line for line in text.splitlines() if line.startswith("meshlib_authorization_dry_run_total{")]
    assert sorted(found) == [
        'meshlib_authorization_dry_run_total{policy="",result="denied"} 1.0',
        'meshlib_authorization_dry_run_total{policy="default/allows",result="allowed"} 1.0',
        'meshlib_authorization_dry_run_total{policy="default/denies",result="denied"} 2.0',
    ]
