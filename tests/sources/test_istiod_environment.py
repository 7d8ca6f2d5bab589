"""An identity from istiod by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

import meshlib
from meshlib.identity.errors import BadCredentials
from meshlib.problems import MeshError
from meshlib.sources.istiod_environment import identity_of_istiod
from tests.support.istiod import REVIEWS, Istiod

WHOLE = {"MESHLIB_CA": "istiod.istio-system.svc:15012", "MESHLIB_CA_TOKEN": "/token", "MESHLIB_CA_ROOT": "/roots.pem"}


def test_all_three_or_none() -> None:
    assert identity_of_istiod({}) is None
    found = identity_of_istiod(WHOLE)
    assert found is not None
    assert found.status()["source"] == "istiod at istiod.istio-system.svc:15012"
    for name in WHOLE:
        with pytest.raises(MeshError, match=f"^{name} is required with"):
            identity_of_istiod({**WHOLE, name: ""})
        with pytest.raises(MeshError, match=f"are required with {name}: "):
            identity_of_istiod({name: WHOLE[name]})


def test_a_certificate_comes_from_one_place() -> None:
    with pytest.raises(MeshError, match="MESHLIB_CA and MESHLIB_CERT both say where the certificate comes from"):
        identity_of_istiod({**WHOLE, "MESHLIB_CERT": "cert.pem"})


def test_what_is_no_address_is_said() -> None:
    with pytest.raises(BadCredentials, match="is not an address of istiod"):
        identity_of_istiod({**WHOLE, "MESHLIB_CA": "https://istiod"})


@pytest.mark.parametrize(("trust_domain", "identity"), [("cluster.local", REVIEWS), ("prod.example", "")])
def test_a_mesh_takes_it_of_the_environment(
    trust_domain: str, identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "s.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: default}\nspec: {ports: [{port: 80}]}\n"
    )
    with Istiod(tmp_path) as istiod:
        monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path / "mesh"))
        monkeypatch.setenv("MESHLIB_CA", istiod.address)
        monkeypatch.setenv("MESHLIB_CA_TOKEN", str(istiod.token_file))
        monkeypatch.setenv("MESHLIB_CA_ROOT", str(istiod.root_file))
        monkeypatch.setenv("MESHLIB_TRUST_DOMAIN", trust_domain)
        with meshlib.Mesh.from_env() as mesh:
            status = mesh.status()["identity"]
            assert status["identity"] == identity
            assert ("is of the trust domain cluster.local" in str(status["problem"])) is not bool(identity)
