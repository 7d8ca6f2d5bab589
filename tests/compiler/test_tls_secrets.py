"""``credentialName``: what is read of Secrets, and what is said when it cannot be."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.routes import TlsSettings
from meshlib.compiler.tls_secrets import Credential, Secrets
from meshlib.resources.kubernetes import Secret
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import destination_rule, pod, service

CANARY = "c4n4ry"


def secret(name: str, namespace: str = "default", plain: bool = False, **values: str) -> dict[str, Any]:
    """Keys: ``tls_crt`` for tls.crt."""
    data = {key.replace("_", "."): value for key, value in values.items()}
    if not plain:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        ("stringData" if plain else "data"): data,
    }


def found(*documents: dict[str, Any], name: str = "db", mutual: bool = True, verifies: bool = True) -> Credential:
    loaded = [r for r in load_objects(documents).resources if isinstance(r, Secret)]
    return Secrets(loaded, "default").credential(name, mutual=mutual, verifies=verifies)


TLS = secret("db", tls_crt="C", tls_key="K", ca_crt="A", ca_crl="R")


@pytest.mark.parametrize("plain", [False, True])
def test_a_tls_secret_and_a_generic_one(plain: bool) -> None:
    assert found(secret("db", plain=plain, tls_crt="C", tls_key="K", ca_crt="A", ca_crl="R")) == Credential(
        b"A", b"R", b"C", b"K"
    )
    generic = secret("db", plain=plain, cert="c", key="k", cacert="a", crl="r", tls_crt="C", tls_key="K", ca_crt="A")
    assert found(generic) == Credential(b"a", b"r", b"c", b"k")


def test_roots_are_of_the_secret_with_cacert_at_its_name_if_there_is_one() -> None:
    assert found(TLS, secret("db-cacert", cacert="B")) == Credential(b"B", b"", b"C", b"K")


def test_only_what_is_needed_has_to_be_there() -> None:
    assert found(secret("db", ca_crt="A"), mutual=False) == Credential(b"A")
    assert found(secret("db", tls_crt="C", tls_key="K"), verifies=False) == Credential(b"", b"", b"C", b"K")
    assert found(secret("db-cacert", ca_crt="A"), mutual=False) == Credential(b"A")


@pytest.mark.parametrize("name", ["db", "kubernetes://db", "default/db", "kubernetes://default/db"])
def test_ways_to_name_it(name: str) -> None:
    assert found(TLS, name=name).key == b"K"


@pytest.mark.parametrize(
    ("documents", "name", "said"),
    [
        ([], "db", "there is no Secret default/db among the resources"),
        ([secret("db", "other", tls_crt="C", tls_key="K")], "db", "there is no Secret default/db among the resources"),
        ([TLS], "other/db", "other/db is of another namespace; a workload reads Secrets of its own, default"),
        ([TLS], "configmap://default/db", "configmap://default/db is a ConfigMap: those are not read; name a Secret"),
        (
            [secret("db", ca_crt=CANARY, tls_crt=CANARY)],
            "db",
            "Secret default/db has neither tls.crt and tls.key nor cert and key (it has ca.crt, tls.crt)",
        ),
        (
            [secret("db", tls_crt="C", tls_key=CANARY)],
            "db",
            "Secret default/db has neither ca.crt nor cacert, by which the server is verified (it has tls.crt, tls.key)",
        ),
        ([secret("db", tls_crt="", tls_key="")], "db", "tls.crt of Secret default/db is empty"),
        ([secret("db", tls_crt="C", tls_key="")], "db", "tls.key of Secret default/db is empty"),
        ([secret("db", tls_crt="C", tls_key="K", ca_crt="")], "db", "ca.crt of Secret default/db is empty"),
        ([secret("db")], "db", "(it is empty)"),
        (
            [{**secret("db"), "data": {"tls.crt": f"{CANARY}!"}}],
            "db",
            "tls.crt of Secret default/db is not valid base64",
        ),
    ],
)
def test_what_cannot_be_used_is_said_and_its_values_are_not(documents: Any, name: str, said: str) -> None:
    problem = found(*documents, name=name).problem
    assert said in problem
    assert CANARY not in problem


def test_no_representation_shows_what_is_in_one() -> None:
    values = {"tls_crt": CANARY, "tls_key": CANARY, "ca_crt": CANARY, "ca_crl": CANARY}
    assert CANARY not in repr(found(secret("db", **values)))
    settings = TlsSettings("MUTUAL", ca_pem=b"c4n4ry", crl_pem=b"c4n4ry", certificate_pem=b"c4n4ry", key_pem=b"c4n4ry")
    assert CANARY not in repr(settings)


# -- in a cluster -----------------------------------------------------------------------------------------------------

BASE = (service("reviews"), pod("reviews", "v1", 1))
KEY = "outbound|9080||reviews.default.svc.cluster.local"


def rule(mode: str = "MUTUAL", **more: Any) -> dict[str, Any]:
    return destination_rule("reviews", tls={"mode": mode, "credentialName": "db", **more})


def test_a_rule_gets_what_its_secret_has() -> None:
    tls = compile_snapshot(load_objects([*BASE, rule(), TLS]).resources, Workload()).clusters[KEY].tls
    assert tls is not None
    assert (tls.mode, tls.credential) == ("MUTUAL", "Secret default/db")
    assert (tls.ca_pem, tls.crl_pem, tls.certificate_pem, tls.key_pem) == (b"A", b"R", b"C", b"K")


def test_of_a_client_in_another_namespace_it_is_another_secret() -> None:
    resources = load_objects([*BASE, rule(), TLS, secret("db", "web", tls_crt="W", tls_key="K", ca_crt="A")]).resources
    tls = compile_snapshot(resources, Workload(namespace="web")).clusters[KEY].tls
    assert tls is not None
    assert tls.certificate_pem == b"W"


def test_one_that_cannot_be_used_refuses_calls_with_the_reason() -> None:
    found = compile_snapshot(load_objects([*BASE, rule("SIMPLE")]).resources, Workload()).clusters[KEY]
    assert found.refusal == (
        "DestinationRule/default/reviews needs the TLS secret db: there is no Secret default/db among the resources"
    )


def test_a_secret_that_changes_is_seen() -> None:
    compiler = Compiler(Workload())
    kept = load_objects([*BASE, rule()]).resources
    keys = []
    for value in ("one", "two"):
        changed = load_objects([secret("db", tls_crt="C", tls_key=value, ca_crt="A")]).resources
        tls = compiler.compile([*kept, *changed]).clusters[KEY].tls
        assert tls is not None
        keys.append(tls.key_pem)
    assert keys == [b"one", b"two"]
    assert compiler.compile(kept).clusters[KEY].refusal
