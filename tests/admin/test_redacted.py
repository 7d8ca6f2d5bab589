"""What is not shown of resources, and what is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.admin.redacted import hide, redacted
from meshlib.policy.secret_values import HIDDEN

C = "c4n4ry"


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "Secret", "data": {"tls.key": C}, "stringData": {"token": C}},
        {"kind": "ConfigMap", "data": {"mesh": f"accessToken: {C}"}, "binaryData": {"a": C}},
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": C}}},
        {"match": [{"headers": {"x-api-key": {"exact": C}, "authorization": {"prefix": C}, "cookie": {"regex": C}}}]},
        {"headers": {"request": {"set": {"authorization": C}, "add": {"x-secret": C}}}},
        {"queryParams": {"access_token": {"exact": C}}},
        {"when": [{"key": "request.headers[x-api-key]", "values": [C], "notValues": [C]}]},
        {"when": [{"key": "request.auth.claims[session]", "values": [C]}]},
        {"headersToAdd": [{"name": "Authorization", "value": C}]},
        {"exact": [{"header": "x-token", "stringMatch": {"exact": C}}]},
        {"jwtRules": [{"jwks": json.dumps({"keys": [{"d": C}]})}]},
        {"storage": {"redis": {"url": f"redis://:{C}@redis:6379/0?password={C}"}}},
        {"address": f"see http://user:{C}@a/b?c={C}, and http://x/y?{C}"},
        {"lightstep": {"accessToken": C}},
        {"password": C, "passwd": [C], "apiKey": {"a": C}},
        {"direct": {"inlineString": C, "inlineBytes": C}},
    ],
)
def test_what_opens_doors_is_not_shown_wherever_it_stands(value):
    for shape in (value, [value], {"spec": {"deep": [value]}}):
        shown = json.dumps(redacted(shape))
        assert C not in shown
        assert "not shown" in shown or "redis://" in shown or "?..." in shown


@pytest.mark.parametrize(
    "value",
    [
        {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews", "port": {"number": 1}}}]}]},
        {"tls": {"credentialName": "web-cert", "privateKey": "/etc/key.pem", "clientCertificate": "/etc/cert.pem"}},
        {"jwtRules": [{"issuer": "https://idp", "fromHeaders": [{"name": "x"}], "fromCookies": ["session"]}]},
        {"when": [{"key": "source.namespace", "values": ["prod"]}]},
        {"key": {"claim": "email"}},
        {"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 1.0}}}},
        {"headers": {"end-user": {"exact": "jason"}}},
        {"weight": 5, "insecureSkipVerify": True, "none": None},
    ],
)
def test_what_an_operator_looks_for_is(value):
    assert redacted(value) == value


def test_the_shape_stays():
    assert hide({"a": [1, {"b": None}], "c": True}) == {"a": [HIDDEN, {"b": None}], "c": True}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_nothing_raises_and_the_shape_stays(value):
    json.dumps(redacted(value))

    def shape(found: object) -> object:
        if isinstance(found, dict):
            return {name: shape(inner) for name, inner in found.items()}
        return [shape(each) for each in found] if isinstance(found, list) else None

    assert shape(redacted(value)) == shape(value)
