"""What the table says of MeshConfig."""

from __future__ import annotations

from meshlib.compiler.semantics.fields import fields
from meshlib.compiler.semantics.mesh_config import ROWS
from meshlib.compiler.semantics.table import HONOURED
from meshlib.resources.loader import load_objects
from tests.support.mesh_config import config_map, http_authorizer, mesh_config


def test_what_acts():
    assert {row.path.partition(".")[0] for row in ROWS if row.status == HONOURED} == {
        "rootNamespace",
        "trustDomain",
        "trustDomainAliases",
        "pathNormalization",
        "extensionProviders",
        "outboundTrafficPolicy",
        "defaultHttpRetryPolicy",
        "enableAutoMtls",
        "meshMTLS",
        "defaultProviders",
        "defaultConfig",
        "enableTracing",
        "accessLogFile",
        "accessLogFormat",
        "accessLogEncoding",
        "protocolDetectionTimeout",
    }
    others = [row.path.rpartition(".")[2] for row in ROWS if not row.inert and row.status != HONOURED]
    assert set(others) == {
        "includeRequestBodyInCheck",
        "includeAdditionalHeadersInCheck",
        *("zipkin", "opentelemetry", "datadog", "skywalking", "dynatraceSampler"),
        *("ingressClass", "ingressService", "ingressControllerMode", "ingressSelector"),
        *("sampling", "proxyMetadata", "mode", "defaultInboundHttpRetryPolicy"),
    }


def test_the_config_map_has_the_rows_of_the_resource_and_its_own_places():
    said = {"trustDomain": "td", "extensionProviders": [http_authorizer()], "accessLogFile": "x", "ca": {}}
    (text, resource) = load_objects([config_map(**said), mesh_config(**said)]).resources
    assert [(f.path, f.row) for f in fields(text)] == [(f.path, f.row) for f in fields(resource)]
    assert next(f.loc[:2] for f in fields(text)) == ("data", "mesh")
    statuses = {field.path: field.row.status for field in fields(resource)}
    assert statuses["trustDomain"] == statuses["extensionProviders.envoyExtAuthzHttp.port"] == HONOURED
    assert statuses["ca"] != HONOURED
