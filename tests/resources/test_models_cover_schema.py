"""Every field of Istio's schema is in our models, and nothing else but old spellings that still load."""

from __future__ import annotations

import pytest
import yaml

from meshlib.resources.kinds import KINDS, all_models, model_for
from tests.support.schema import CONDENSED, REFERENCE, model_fields, schema_fields

OLD_SPELLINGS = {
    "VirtualService": {
        "http.fault.abort.percent",
        "http.appendHeaders",
        "http.appendRequestHeaders",
        "http.appendResponseHeaders",
        "http.removeRequestHeaders",
        "http.removeResponseHeaders",
        "http.websocketUpgrade",
        "http.route.appendRequestHeaders",
        "http.route.appendResponseHeaders",
        "http.route.removeRequestHeaders",
        "http.route.removeResponseHeaders",
    },
}
ALTERNATIVE_NAMES = {"http.mirror_percent", "jwtRules.jwks_uri"}
"""snake_case twins in the schema: accepted for every field, see below."""


def condensed() -> dict[str, tuple[str, list[str], set[str]]]:
    """kind -> (group, versions, fields), from the copy of field paths that is kept beside this test."""
    found: dict[str, tuple[str, list[str], set[str]]] = {}
    fields: set[str] = set()
    for line in CONDENSED.read_text().splitlines():
        if line.startswith("# "):
            kind, group, *versions = line[2:].split()
            fields = set()
            found[kind] = (group, versions, fields)
        else:
            fields.add(line)
    return found


REFERENCE_KINDS = condensed()


def port_names(fields: set[str]) -> set[str]:
    """``port.name`` is an old way to select a port, everywhere a port is selected by number."""
    return {
        f for f in fields if f.endswith(("port.name", "ports.name")) and f.removesuffix("name") + "number" in fields
    }


@pytest.mark.parametrize("kind", list(REFERENCE_KINDS))
def test_no_field_of_the_schema_is_missing_in_the_model(kind):
    spec = all_models()[kind].model_fields["spec"].annotation
    missing = REFERENCE_KINDS[kind][2] - set(model_fields(spec)) - ALTERNATIVE_NAMES
    assert missing == set()


@pytest.mark.parametrize("kind", list(REFERENCE_KINDS))
def test_the_model_has_no_field_that_istio_does_not_have(kind):
    fields = set(model_fields(all_models()[kind].model_fields["spec"].annotation))
    extra = fields - REFERENCE_KINDS[kind][2] - OLD_SPELLINGS.get(kind, set())
    # Gateway's own ports have names in the schema; selectors of ports had them before Istio 1.0
    assert extra - port_names(fields) == set()


@pytest.mark.parametrize("kind", list(REFERENCE_KINDS))
def test_every_listed_version_is_read(kind):
    group, versions, _ = REFERENCE_KINDS[kind]
    assert set(KINDS[kind].versions) == set(versions)
    for version in versions:
        assert model_for(f"{group}/{version}", kind) is all_models()[kind]


def test_an_unknown_version_or_group_is_not_read():
    assert model_for("networking.istio.io/v9", "VirtualService") is None
    assert model_for("example.com/v1", "VirtualService") is None


def test_the_copy_of_field_paths_is_that_of_the_reference():
    if not REFERENCE.exists():
        pytest.skip("the reference schema is not beside this clone")
    for kind, entry in yaml.safe_load(REFERENCE.read_text()).items():
        group, versions, fields = REFERENCE_KINDS[kind]
        assert (entry["group"], entry["versions"]) == (group, versions)
        assert set(schema_fields(entry["spec"])) == fields


@pytest.mark.parametrize("kind", ["Service", "Endpoints", "EndpointSlice", "Pod", "Deployment", "Namespace",
                                  "ServiceAccount", "Secret", "ResiliencePolicy"])  # fmt: skip
def test_the_kinds_of_discovery_and_our_own_are_there(kind):
    assert kind in all_models()
