"""RequestAuthentications of a mesh at work when an edit breaks them: no token goes unchecked meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import meshlib
from meshlib.problems import MeshError
from tests.support.fake_clock import FakeClock
from tests.support.token_bench import IDP, request_authentication
from tests.support.tokens import issuer

SIGNER = issuer("ES256")
RULE = {"issuer": IDP, "jwks": SIGNER.jwks()}
GOOD = request_authentication(RULE, name="new")
NO_GUESTS = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "no-guests", "namespace": "default"},
    "spec": {"action": "DENY", "rules": [{"when": [{"key": "request.auth.claims[role]", "values": ["guest"]}]}]},
}


def broken(rule: Any, **spec: Any) -> dict[str, Any]:
    return request_authentication(rule, name="new", **spec)


def write(path: Path, document: dict[str, Any] | str) -> None:
    temporary = path.with_name("." + path.name)
    temporary.write_text(document if isinstance(document, str) else json.dumps(document))
    os.replace(temporary, path)


def token(clock: FakeClock, **claims: Any) -> str:
    return SIGNER.token({"iss": IDP, "sub": "jane", "exp": int(clock.time()) + 3600, **claims})


class Counting:
    """An application that counts how often it is called, and keeps the last headers."""

    def __init__(self) -> None:
        self.calls = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.headers = scope["headers"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "policy.json", NO_GUESTS)
    return tmp_path


def client(mesh: meshlib.Mesh) -> tuple[TestClient, Counting]:
    application = Counting()
    return TestClient(meshlib.MeshASGIMiddleware(application, mesh)), application  # type: ignore[arg-type]


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    "new",
    [
        broken({**RULE, "audience": "a"}),
        broken({**RULE, "jwks": "{"}),
        broken({**RULE, "jwksUri": "ftp://x"}),
        broken({**RULE, "timeout": "soon"}),
        broken(RULE, selector={"matchLabel": {"app": "other"}}),
        {**GOOD, "apiVersion": "security.istio.io/v9"},
        {**broken({**RULE, "issuer": 5}), "metadata": {"name": "new", "namespace": "istio-system"}},
    ],
)
def test_while_a_new_one_is_broken_tokens_are_refused_and_who_has_none_is_judged_by_policies(
    folder: Path, clock: FakeClock, new: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        asking, application = client(mesh)
        write(folder / "new.json", new)
        guest = token(clock, role="guest")
        for _ in range(2):  # and it stays so
            mesh.reload()
            for headers, query in ((bearer(guest), ""), (bearer("garbage"), ""), ({}, f"?access_token={guest}")):
                response = asking.get(f"/{query}", headers=headers)
                assert (response.status_code, response.text) == (401, "Jwt verification fails")
                assert response.headers["www-authenticate"].endswith('", error="invalid_token"')
        assert application.calls == 0
        assert asking.get("/").status_code == 200
        assert any(p.code == "refuses-everything" and p.path.endswith("/new") for p in mesh.problems)
        assert any("every token where it may have looked for one is refused" in m for m in caplog.messages)
        assert not any(guest in record.getMessage() for record in caplog.records if record.name.startswith("meshlib"))
        write(folder / "new.json", GOOD)
        mesh.reload()
        assert [asking.get("/", headers=bearer(t)).status_code for t in (token(clock), guest)] == [200, 403]
        assert not any(p.code == "refuses-everything" for p in mesh.problems)


@pytest.mark.parametrize(
    "new",
    [
        json.dumps(GOOD)[:-5],
        json.dumps(GOOD).replace('"issuer"', '"fromParams": ["t"], "fromParams": ["u"], "issuer"'),
        broken({**RULE, "fromHeader": [{"name": "x-jwt"}]}),
        broken({**RULE, "fromHeaders": "x-jwt"}),
        broken({**RULE, "presence": "required"}),
        broken("nonsense"),
        {**GOOD, "spec": {"rules": [RULE]}},
        {**GOOD, "metadata": {"name": "new", "namespace": 5}, "spec": []},
    ],
)
def test_one_of_which_nobody_can_tell_where_it_looks_refuses_everything(
    folder: Path, clock: FakeClock, new: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        asking, application = client(mesh)
        write(folder / "new.json", new)
        mesh.reload()
        for headers in ({}, bearer(token(clock))):
            response = asking.get("/", headers=headers)
            assert (response.status_code, response.text) == (401, "Jwt verification fails")
        assert application.calls == 0
        assert any("everything that it may have refused is refused" in m for m in caplog.messages)
        write(folder / "new.json", GOOD)
        mesh.reload()
        assert asking.get("/").status_code == 200


@pytest.mark.parametrize("new", [json.dumps(GOOD)[:-5], {**GOOD, "metadata": {"name": "new", "namespace": 5}}])
@pytest.mark.parametrize("token", [{}, bearer("x")])
def test_where_nobody_knows_its_namespace_it_is_for_every_workload(
    folder: Path, clock: FakeClock, new: Any, token: dict[str, str]
) -> None:
    workload = meshlib.Workload(namespace="shop", labels={"app": "cart"})
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock, workload=workload) as mesh:
        asking, _ = client(mesh)
        write(folder / "new.json", new)
        mesh.reload()
        refused = isinstance(new, str) or bool(token)
        assert asking.get("/", headers=token).status_code == (401 if refused else 200)


def test_a_good_policy_of_another_kind_is_no_last_good_version(folder: Path, clock: FakeClock) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        asking, _ = client(mesh)
        write(folder / "new.json", json.dumps(request_authentication(RULE, name="no-guests"))[:-5])
        mesh.reload()
        assert asking.get("/").status_code == 401


def test_tokens_are_refused_in_every_place_that_can_be_read_and_what_it_sets_is_taken_from_no_caller(
    folder: Path, clock: FakeClock
) -> None:
    places = {"fromHeaders": [{"name": "X-Jwt", "prefix": "jwt "}], "fromParams": ["t"], "fromCookies": ["c"]}
    outputs = {"outputPayloadToHeader": "x-payload", "outputClaimToHeaders": [{"claim": "sub", "header": "X-Sub"}]}
    write(folder / "new.json", GOOD)
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        asking, application = client(mesh)
        write(folder / "more.json", request_authentication({**places, **outputs, "issuer": 5}, name="more"))
        mesh.reload()
        for url, headers in (
            ("/", {"x-jwt": "jwt x"}),
            ("/?t=x", {}),
            ("/", {"cookie": "a=b; c=x"}),
            ("/", bearer(token(clock))),
        ):
            assert asking.get(url, headers=headers).status_code == 401
        assert application.calls == 0
        assert asking.get("/?a=t", headers={"x-sub": "root", "x-payload": "e30", "x-jwt": "x"}).status_code == 200
        assert {b"x-sub", b"x-payload"}.isdisjoint(name for name, _ in application.headers)
        preflight = {"origin": "a", "access-control-request-method": "GET", "x-jwt": "jwt x"}
        assert asking.options("/", headers=preflight).status_code == 200


@pytest.mark.parametrize(
    "new",
    [
        {**broken({**RULE, "jwks": "{"}), "metadata": {"name": "new", "namespace": "elsewhere"}},
        broken({**RULE, "jwks": "{"}, selector={"matchLabels": {"app": "other"}}),
        broken({**RULE, "jwks": "{"}, targetRefs=[{"kind": "Gateway", "name": "g"}]),
    ],
)
def test_one_that_is_surely_not_for_this_workload_refuses_nothing(folder: Path, clock: FakeClock, new: Any) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        asking, _ = client(mesh)
        write(folder / "new.json", new)
        mesh.reload()
        assert asking.get("/", headers=bearer("x")).status_code == 200


def test_an_edit_that_breaks_one_keeps_its_last_good_version(folder: Path, clock: FakeClock) -> None:
    write(folder / "new.json", GOOD)
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        asking, _ = client(mesh)
        twice = json.dumps(GOOD).replace('"issuer"', '"issuer": "x", "issuer"')
        for edit in (broken({**RULE, "issuer": 5}), json.dumps(GOOD)[:-5], twice):
            write(folder / "new.json", edit)
            mesh.reload()
            good, guest = token(clock), token(clock, role="guest")
            codes = [asking.get("/", headers=bearer(t)).status_code for t in (good, guest, "x")]
            assert codes == [200, 403, 401]
            assert not any(p.code == "refuses-everything" for p in mesh.problems)


@pytest.mark.parametrize("watch", [True, False])
def test_a_broken_one_at_the_start_or_handed_in_is_an_error_and_changes_nothing(folder: Path, watch: bool) -> None:
    bad = broken({**RULE, "issuer": 5})
    write(folder / "new.json", bad)
    with pytest.raises(MeshError, match=r"spec.jwtRules\[0\].issuer"):
        meshlib.Mesh.from_path(folder, watch=watch)
    with meshlib.Mesh.from_resources([GOOD]) as mesh:
        asking, _ = client(mesh)
        with pytest.raises(MeshError, match=r"spec.jwtRules\[0\].issuer"):
            mesh.apply([bad])
        assert asking.get("/", headers=bearer("x")).status_code == 401


def test_status_and_explain_tell_it(folder: Path, clock: FakeClock) -> None:
    with meshlib.Mesh.from_path(folder, watch=False, clock=clock) as mesh:
        write(folder / "new.json", broken({**RULE, "audience": "a"}))
        mesh.reload()
        status = mesh.status()["inbound"]
        assert status["tokens"] == ["default/new"]
        assert list(status["broken_tokens"]) == ["default/new"]
        assert "audience" in status["broken_tokens"]["default/new"]
        for asked in ({"headers": bearer("x")}, {"path": "/?access_token=x"}, {"claims": {"iss": IDP}}):
            found = mesh.explain_inbound(**asked)
            assert (found.allowed, found.status) == (False, 401)
            assert "RequestAuthentication/default/new cannot be read" in found.reason
            assert "audience" in found.reason
        assert mesh.explain_inbound(headers=bearer("x"), protocol="grpc").grpc_status == 16
        write(folder / "good.json", request_authentication({**RULE, "fromHeaders": [{"name": "x-jwt"}]}, name="good"))
        mesh.reload()
        assert mesh.explain_inbound(claims={"iss": IDP}).allowed, "their token may be where the broken one did not look"
        none = mesh.explain_inbound()
        assert none.allowed
        assert any("RequestAuthentication/default/new cannot be read" in note for note in none.notes)
        write(folder / "new.json", broken({**RULE, "fromHeaders": "x"}))
        mesh.reload()
        found = mesh.explain_inbound()
        assert (found.allowed, found.status) == (False, 401)
        assert "may have looked anywhere" in found.reason
