"""``/certs``: what is shown of certificates, and that keys are not."""

from __future__ import annotations

import json

import meshlib
from meshlib.admin.certs import certs_page
from tests.support.admin import seen
from tests.support.identities import World


def shown(mesh: meshlib.Mesh) -> tuple[str, dict]:
    page = certs_page(seen(mesh))
    assert page.whole is not None
    return page.whole.decode(), json.loads(page.whole)


def test_without_an_identity_there_are_none():
    with meshlib.Mesh.from_yaml("") as mesh:
        assert shown(mesh)[1] == {"certificates": [], "files": []}


def test_the_svid_and_its_roots_are_there_and_the_key_is_not():
    world = World(of_a_mesh=True)
    with meshlib.Mesh.from_yaml("", identity=world.identity) as mesh:
        key = world.rotate().key_pem.decode()
        text, found = shown(mesh)
    (certificate,) = found["certificates"]
    leaf = certificate["cert_chain"][0]
    assert leaf["subject_alt_names"][0]["uri"].startswith("spiffe://")
    assert int(leaf["days_until_expiration"]) >= 0
    assert leaf["valid_from"] < leaf["expiration_time"]
    assert certificate["ca_cert"][0]["path"].startswith("trust domain ")
    for line in key.splitlines():
        assert line not in text
