"""Each operator reads what Envoy's of that name does."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.access_log.format import Operator, parse
from meshlib.compiler.access_log.operators import OPERATORS
from meshlib.telemetry.access_log.operators import HIDDEN, LONG_FLAGS, reader
from tests.support.access_log import START, MadeUp


def value(text: str, *args: Any, **made: Any) -> object:
    (operator,) = parse(text)
    assert isinstance(operator, Operator)
    return reader(operator, lambda: START + 2).read(MadeUp(*args, **made))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%REQ(:METHOD)%", "GET"),
        ("%REQ(:PATH)%", "/a?b=c"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/a?b=c"),
        ("%REQ(:authority)%", "reviews:9080"),
        ("%REQ(Host)%", "reviews:9080"),
        ("%REQ(:SCHEME)%", "http"),
        ("%REQUEST_HEADER(X-A)%", None),
        ("%REQ(X-A?X-B)%", None),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/a"),
        ("%PATH%", "/a?b=c"),
        ("%PATH(NQ)%", "/a"),
        ("%PATH(WQ:PATH):3%", "/a?"),
        ("%PATH(:ORIG)%", None),
        ("%QUERY_PARAM(b)%", "c"),
        ("%QUERY_PARAM(x)%", None),
        ("%QUERY_PARAMS%", "b=c"),
        ("%PROTOCOL%", "HTTP/1.1"),
        ("%RESPONSE_CODE%", 200),
        ("%RESP(:STATUS)%", "200"),
        ("%RESPONSE_HEADER(X-A?:status):2%", "20"),
        ("%TRAILER(:STATUS)%", None),
        ("%RESPONSE_FLAGS%", "-"),
        ("%RESPONSE_FLAGS_LONG%", "-"),
        ("%RESPONSE_CODE_DETAILS%", "via_upstream"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "via upstream"),
        ("%CONNECTION_TERMINATION_DETAILS%", None),
        ("%TRAILER(X-Trailer)%", "t"),
        ("%RESPONSE_TRAILER(X-Other?X-Trailer)%", "t"),
        ("%START_TIME%", "2016-04-15T16:00:00.250Z"),
        ("%START_TIME(%Y/%m/%dT%H:%M:%S%z)%", "2016/04/15T16:00:00+0000"),
        ("%EMIT_TIME(%s.%3f)%", "1460736002.250"),
        ("%DURATION%", 1500),
        ("%RESPONSE_DURATION%", 1000),
        ("%RESPONSE_TX_DURATION%", 500),
        ("%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%", 1_000_000),
        ("%COMMON_DURATION(DS_RX_BEG:US_RX_BEG)%", 1000),
        ("%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%", None),
        ("%UPSTREAM_HOST%", "10.1.2.3:9080"),
        ("%UPSTREAM_HOST_NAME_WITHOUT_PORT%", "10.1.2.3"),
        ("%UPSTREAM_HOSTS_ATTEMPTED%", "10.1.2.2:9080,10.1.2.3:9080"),
        ("%UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%", "10.1.2.2,10.1.2.3"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%", "10.1.0.0/16"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(99)%", "10.1.2.3/32"),
        ("%UPSTREAM_REMOTE_PORT%", 9080),
        ("%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(64)%", "2001:db8:1234:5678::/64"),
        ("%UPSTREAM_LOCAL_PORT%", 4711),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", 2),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "/run/app.sock"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "/run/app.sock"),
        ("%DOWNSTREAM_REMOTE_PORT%", None),
        ("%REQUESTED_SERVER_NAME%", None),
        ("%REQUESTED_SERVER_NAME(SNI_FIRST)%", "reviews:9080"),
        ("%REQUESTED_SERVER_NAME(HOST_FIRST:ORIG)%", None),
        ("%GRPC_STATUS%", None),
        ("%FILTER_STATE(x)%", None),
        ("%ACCESS_LOG_TYPE%", "DownstreamEnd"),
        ("%TRACE_ID%", None),
        ('%COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": ":authority"}]}):7%', "reviews"),
        ("%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%", "me"),
        ("%METADATA(DYNAMIC:envoy.filters.http.jwt_authn:payload:deep:n)%", 1),
        ("%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:groups)%", ["a", "b"]),
        ("%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:nobody:x)%", None),
        ("%DYNAMIC_METADATA(other:payload:sub)%", None),
        ("%CEL(response.code)%", "200"),
        ("%CEL(connection.mtls)%", "false"),
        ("%CEL(request.url_path.contains('a') ? 'yes' : 'no'):2%", "ye"),
        ("%CEL(request.headers['x-a'])%", None),
        ("%CEL(xds.listener_direction)%", "1"),
        ("%CEL(node.id)%", None),
        ("%TYPED_CEL(response.code + 1)%", 201),
        ("%TYPED_CEL(connection.mtls)%", False),
        ("%TYPED_CEL(request.duration)%", "1.5s"),
        ('%COALESCE({"operators": [{"command": "CEL", "param": "request.headers.x"}, "PROTOCOL"]})%', "HTTP/1.1"),
    ],
)  # fmt: skip
def test_a_value(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("%GRPC_STATUS%", 3, "InvalidArgument"),
        ("%GRPC_STATUS(CAMEL_STRING)%", 1, "Canceled"),
        ("%GRPC_STATUS(SNAKE_STRING)%", 1, "CANCELLED"),
        ("%GRPC_STATUS(NUMBER)%", 0, 0),
        ("%GRPC_STATUS_NUMBER%", 14, 14),
        ("%GRPC_STATUS%", 99, "99"),
    ],
)
def test_a_grpc_status(text: str, code: int, expected: object) -> None:
    assert value(text, grpc=code) == expected


def test_flags_have_long_names() -> None:
    assert value("%RESPONSE_FLAGS%", flags="UF,URX") == "UF,URX"
    assert value("%RESPONSE_FLAGS_LONG%", flags="UF,URX,FB,NEW") == (
        "UpstreamConnectionFailure,UpstreamRetryLimitExceeded,Fallback,NEW"
    )
    assert len(LONG_FLAGS) == 31


def test_the_other_header_is_read_when_the_first_is_not_there() -> None:
    assert value("%REQ(X-A?X-B)%", headers={"x-b": "2"}) == "2"
    assert value("%REQ(X-A?X-B)%", headers={"x-a": "", "x-b": "2"}) == ""
    assert value("%RESP(X-A?X-B)%", back={"x-b": "2"}) == "2"
    assert value("%RESP(X-A?X-B):2%", back={"x-a": "123"}) == "12"


def test_what_opens_doors_is_not_shown() -> None:
    headers = {"authorization": "Bearer s3cret", "cookie": "a=s3cret", "x-api-key": "s3cret"}
    for name in headers:
        assert value(f"%REQ({name})%", headers=headers) == HIDDEN
        assert value(f"%REQ({name})%") is None
    assert value("%RESP(Set-Cookie)%", back={"set-cookie": "a=s3cret"}) == HIDDEN
    assert value("%RESP(X-A?Set-Cookie)%", back={"set-cookie": "a=s3cret"}) == HIDDEN
    target = "/a?access_token=s3cret&b=c&%61pi_key=s3cret"
    for text in ("%REQ(:PATH)%", "%PATH%", "%QUERY_PARAMS%", "%QUERY_PARAMS(DECODED)%", "%QUERY_PARAM(access_token)%"):
        found = value(text, target)
        assert "s3cret" not in str(found)
        assert HIDDEN in str(found)
    assert value("%REQ(referer)%", headers={"referer": "http://x/?token=s3cret"}) == "http://x/?token=***"
    told = ("request.path", "request.query", "request.referer", "request.headers['authorization']")
    for text in (*told, "request.headers[':path']", "request.headers['referer']"):
        found = value(f"%CEL({text})%", target, headers={**headers, "referer": "http://x/?token=s3cret"})
        assert found is not None
        assert "s3cret" not in str(found)


def test_where_a_response_sends_its_caller_tells_no_secret() -> None:
    for told in ("%RESP(Location)%", "%RESP(X-A?Content-Location)%", "%CEL(response.headers['Location'])%"):
        for url, shown in (
            ("https://app.example/a?state=1&code=s3cret", "https://app.example/a?state=1&code=***"),
            ("https://app.example/a#access_token=s3cret&b=c", "https://app.example/a#access_token=***&b=c"),
            ("/a?b=c#id_token=s3cret", "/a?b=c#id_token=***"),
            ("/#/cb?token=s3cret", "/#/cb?token=***"),
        ):
            assert value(told, back={"location": url, "content-location": url}) == shown
        assert value(told, back={"location": "", "content-location": ""}) == ""
        assert value(told) is None


def test_parameters_are_found_by_their_decoded_names_and_shown_as_envoy_shows_them() -> None:
    target = "/a?k=a+b%20%41%2&%C3%A9=u&q%71=%22%3c%7E"
    assert value("%QUERY_PARAM(\u00e9)%", target) == "u"
    assert value("%QUERY_PARAM(qq)%", target) == '"<~'
    assert value("%QUERY_PARAMS(DECODED)%", target) == "k=a+b%20A%2&%C3%A9=u&qq=%22%3c~"


def test_names_of_headers_have_no_case_in_expressions() -> None:
    assert value("%CEL(request.headers['X-Tenant'] + request.headers['x-tenant'])%", headers={"x-tenant": "a"}) == "aa"


def test_a_call_without_a_response_has_no_status_among_its_headers() -> None:
    assert value("%RESP(:STATUS)%", status=0) is None


def test_the_environment_is_read_when_the_format_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD", "p-1")
    (operator,) = parse("%ENVIRONMENT(POD):2%")
    assert isinstance(operator, Operator)
    read = reader(operator, lambda: 0.0).read
    monkeypatch.delenv("POD")
    assert read(MadeUp()) == "p-"
    assert value("%ENVIRONMENT(POD)%") is None


def test_a_trace_is_that_of_the_span_or_of_what_came() -> None:
    class Span:
        trace_id, span_id = 0xABC, 0xDEF

    assert value("%TRACE_ID%", traced=Span()) == "00000000000000000000000000000abc"
    assert value("%SPAN_ID%", traced=Span()) == "0000000000000def"
    assert value("%TRACE_ID%", headers={"traceparent": f"00-{'7' * 32}-{'1' * 16}-01"}) == "7" * 32
    assert value("%TRACE_ID%", headers={"x-b3-traceid": "8" * 32}) == "8" * 32


def test_every_operator_has_a_reader() -> None:
    arguments = {
        "COMMON_DURATION": "DS_RX_BEG:DS_TX_END:ms",
        "COALESCE": '{"operators": ["HOSTNAME"]}',
        "METADATA": "DYNAMIC:x",
    }
    for name, spec in OPERATORS.items():
        argument = f"({arguments.get(name, 'x')})" if spec.takes == "argument" else ""
        found = value(f"%{name}{argument}%")
        if spec.side == "neither":
            assert found is None, name
