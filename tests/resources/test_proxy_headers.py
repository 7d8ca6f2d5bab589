"""``proxyHeaders`` as it is written: which words are taken, and where what is wrong is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from meshlib.resources.loader import load_objects
from meshlib.resources.proxy_headers import ProxyHeaders
from tests.support.mesh_config import mesh_config

MODES = ["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"]


def read(**written: Any) -> ProxyHeaders:
    return ProxyHeaders.model_validate(written)


def test_nothing_is_said_of_what_is_not_written():
    said = read()
    assert [getattr(said, name) for name in ProxyHeaders.model_fields] == [None] * len(ProxyHeaders.model_fields)


@pytest.mark.parametrize(("number", "name"), list(enumerate(MODES)))
def test_a_mode_is_read_by_its_name_and_by_istios_number(number: int, name: str):
    assert read(forwardedClientCert=name) == read(forwardedClientCert=number)
    assert read(forwardedClientCert=name).forwarded_client_cert == name


def test_each_header_has_its_own_words():
    said = read(
        setCurrentClientCertDetails={"subject": False, "cert": True, "uri": False},
        server={"disabled": False, "value": "shop"},
        envoyDebugHeaders={"disabled": True},
        metadataExchangeHeaders={"mode": "IN_MESH"},
    )
    details = said.set_current_client_cert_details
    assert details is not None
    assert (details.subject, details.cert, details.chain, details.dns, details.uri) == (False, True, None, None, False)
    assert said.server is not None
    assert (said.server.disabled, said.server.value) == (False, "shop")
    assert said.envoy_debug_headers is not None
    assert said.envoy_debug_headers.disabled is True
    assert said.metadata_exchange_headers is not None
    assert said.metadata_exchange_headers.mode == "IN_MESH"


@pytest.mark.parametrize(
    "written",
    [
        {"forwardedClientCert": "FORWARD"},
        {"forwardedClientCert": len(MODES)},
        {"metadataExchangeHeaders": {"mode": "EVERYWHERE"}},
        {"server": {"value": ["a"]}},
        {"setCurrentClientCertDetails": {"dns": "perhaps"}},
    ],
)
def test_what_istio_does_not_know_is_refused_where_it_stands(written: dict[str, Any]):
    with pytest.raises(ValidationError):
        read(**written)
    (found,) = load_objects([mesh_config(defaultConfig={"proxyHeaders": written})]).errors
    assert next(iter(written)) in f"{found.path} {found.message}"
