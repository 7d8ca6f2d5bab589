"""The same formats, the same requests, the same lines as a real Envoy's, where a client can know the value."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from meshlib.compiler.access_log.format import FormatError, parse
from meshlib.compiler.access_log.operators import OPERATORS
from tests.differential.envoy_process import TYPES, cluster, require_envoy, running
from tests.support.evil_server import EvilServer
from tests.support.resources import pod, service, to, virtual_service

pytestmark = pytest.mark.differential

LOGGER = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
SAME = (
    '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% '
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT):6%" "%REQ(X-TEST?X-OTHER)%" "%REQ(:AUTHORITY)%" '
    "%PATH% %PATH(NQ)% %PATH(WQ:PATH):5% %QUERY_PARAM(b)% %QUERY_PARAMS% %RESP(X-BACK)% %RESP(NOT-THERE?X-BACK):2% "
    "%GRPC_STATUS% %REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(SNI_FIRST)% %UPSTREAM_REQUEST_ATTEMPT_COUNT% "
    "%VIRTUAL_CLUSTER_NAME% %ROUTE_NAME% %START_TIME(%Y)% %% %DYNAMIC_METADATA(x:y)% %ENVIRONMENT(NO_SUCH_VARIABLE)% "
    "%RESP(:STATUS)% %RESP(X?:STATUS):2% %QUERY_PARAMS(DECODED)% %CEL(request.headers['X-Test'])% "
    "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(33)% "
    "%ACCESS_LOG_TYPE% %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)% %UPSTREAM_HOST% "
    "%CEL(response.code)% %CEL(request.headers['x-test'])% %CEL(has(request.query) && request.url_path.contains('p'))% "
    "%CEL(request.method):2% %CEL(response.size * 2)% %CEL(1.5)% %CEL(xds.route_name)% "
    "%CEL(response.grpc_status)% %CEL(has(response.grpc_status))% "
    '%COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": "x-test"}]}):3%'
)  # fmt: skip
JSON = {
    "code": "%RESPONSE_CODE%",
    "missing": "%REQ(X-NO)%",
    "both": "%REQ(:METHOD)% %REQ(X-NO)% %RESPONSE_CODE%",
    "nested": {"path": "%PATH%", "list": ["%PROTOCOL%", "literal 100%%", "%REQ(X-TEST)%"]},
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "flags": "%RESPONSE_FLAGS%",
    "year": "%START_TIME(%Y)%",
    "cel": [
        "%CEL(response.code)%",
        "%TYPED_CEL(response.code)%",
        "%TYPED_CEL(connection.mtls)%",
        "%TYPED_CEL(request.headers['nothing'])%",
    ],
    "list": "%TYPED_CEL([request.method, 1.5, null, {'a': b'x'}])%",
    "n": 1,
}
BACK = b"HTTP/1.1 200 OK\r\nx-back: back\r\ncontent-length: 3\r\n\r\nabc"
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/a?b=c&d=e", {"headers": {"x-test": "t st", "x-forwarded-for": "1.2.3.4"}}),
    ("POST", "/p?b=%20x%41&q%71=%22+1", {"content": b"12345", "headers": {"x-other": "o"}}),
    ("DELETE", "/", {}),
]


def theirs(
    upstream: int | None, folder: Path, form: dict[str, Any], calls: list[tuple[str, str, dict[str, Any]]]
) -> list[str]:
    """What Envoy writes of these calls. ``upstream`` None: a cluster without endpoints."""
    listen, admin, path = free_port(), free_port(), folder / "envoy.log"
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "access_log": [
            {"name": "file", "typed_config": {"@type": LOGGER, "path": str(path), "log_format": form}},
        ],
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"name": "the-rule", "match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0.3s"}}],
                }
            ]
        },
    }  # fmt: skip
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [cluster("c", [] if upstream is None else [upstream])],
        },
    }
    with running(config, admin), httpx.Client(base_url=f"http://127.0.0.1:{listen}", timeout=20) as client:
        for method, target, more in calls:
            client.request(method, target, **{**more, "headers": {**more.get("headers", {}), "host": "reviews:9080"}})
        httpx.post(f"http://127.0.0.1:{admin}/reopen_logs")  # writes what it has kept back
        until = time.monotonic() + 30
        while not path.exists() or len(found := path.read_text().splitlines()) < len(calls):
            assert time.monotonic() < until, "Envoy has not written its log"
            time.sleep(0.02)
    return found


def ours(upstream: int | None, folder: Path, form: Any, calls: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    path = folder / "ours.log"
    resources = [
        service("reviews"),
        *([] if upstream is None else [pod("reviews", "v1", upstream)]),
        virtual_service(
            "reviews",
            {"name": "the-rule", "route": [to("reviews")], "retries": {"attempts": 0}, "timeout": "300ms"},
        ),
    ]
    mesh = meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), access_log=path, access_log_format=form)
    with mesh, mesh.client(local_replies="respond") as client:
        for method, target, more in calls:
            client.request(method, f"http://reviews:9080{target}", **more)
    return path.read_text().splitlines()


PLANS: dict[str, tuple[list[Any], list[tuple[str, str, dict[str, Any]]]]] = {
    "responses": ([BACK], CALLS),
    "closed": (["close"], CALLS[:1]),
    "not HTTP": ([b"garbage\r\n\r\n"], CALLS[:1]),
    "too slow": ([0.6, BACK], CALLS[:1]),
}


LONG = pytest.mark.skipif(os.environ.get("MESHLIB_FAULTS") != "1", reason="an Envoy of its own each: MESHLIB_FAULTS=1")


@pytest.mark.parametrize("name", ["responses", *[pytest.param(name, marks=LONG) for name in list(PLANS)[1:]]])
def test_lines_of_text(name: str, tmp_path: Path) -> None:
    require_envoy()
    plan, calls = PLANS[name]
    with EvilServer(plan) as server:
        expected = theirs(server.port, tmp_path, {"text_format_source": {"inline_string": f"{SAME}\n"}}, calls)
        found = ours(server.port, tmp_path, SAME, calls)
    assert found == expected


def test_lines_of_json(tmp_path: Path) -> None:
    require_envoy()
    with EvilServer([BACK]) as server:
        expected = theirs(server.port, tmp_path, {"json_format": JSON}, CALLS)
        found = ours(server.port, tmp_path, JSON, CALLS)
    assert [json.loads(line) for line in found] == [json.loads(line) for line in expected]


@pytest.mark.parametrize("endpoint", ["refused", pytest.param("none", marks=LONG)])
def test_lines_of_calls_that_reach_nobody(endpoint: str, tmp_path: Path) -> None:
    require_envoy()
    form = "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_SENT% %UPSTREAM_HOST% %RESPONSE_CODE_DETAILS%"
    port = None if endpoint == "none" else free_port()
    (expected,) = theirs(port, tmp_path, {"text_format_source": {"inline_string": f"{form}\n"}}, CALLS[:1])
    (found,) = ours(port, tmp_path, form, CALLS[:1])
    # the words of a failed connection are each system's own
    assert found.partition("|")[0] == expected.partition("|")[0]


ACCEPTED = [
    "%PROTOCOL()%",
    "%REQ(a?)%",
    "%PATH(:PATH)%",
    "%%",
    "%START_TIME()%",
    "%REQ(:METHOD?X):0%",
    "%METADATA(DYNAMIC)%",
    "%COMMON_DURATION(DS_RX_BEG:DS_TX_END)%",
    "%CEL(request.headers['x-log-mtls'] || request.url_path.contains('v1beta3'))%",
    "%CEL(response.code):2% %TYPED_CEL(7 % (2))%",
]
REFUSED = ["%REQ()%", "%REQ%", "%NO_SUCH%", "a%b", "%REQ(a b)%", "%DURATION(a)%", "%DURATION:5%", "%START_TIME:3%", "%PATH(A)%",
           "%START_TIME(%n)%", "%GRPC_STATUS(x)%", "%ENVIRONMENT%", "%QUERY_PARAM()%", "%TRACE_ID:4%",
           "%CEL(a ||)%", "%CEL()%", "%CEL(a\n|| b)%"]  # fmt: skip


def test_formats_are_accepted_or_refused_as_by_envoy() -> None:
    arguments = {
        "COMMON_DURATION": "DS_RX_BEG:DS_TX_END:ms", "COALESCE": '{"operators": ["HOSTNAME"]}', "METADATA": "DYNAMIC:a",
        "CEL": "true", "TYPED_CEL": "true",
    }  # fmt: skip
    names = [name for name in OPERATORS if name != "REQ_WITHOUT_QUERY"]  # Envoy has that one in an extension
    every = "".join(
        f"%{name}({arguments.get(name, 'a')})%" if OPERATORS[name].takes == "argument" else f"%{name}%"
        for name in names
    )
    assert valid(every + "".join(ACCEPTED))
    parse(every + "".join(ACCEPTED))
    for text in REFUSED:
        with pytest.raises(FormatError):
            parse(text)
        assert not valid(text), text


def valid(text: str) -> bool:
    """Whether Envoy takes a format."""
    binary = require_envoy()
    config = {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "m",
                                    "typed_config": {
                                        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
                                        "stat_prefix": "t",
                                        "access_log": [
                                            {
                                                "name": "f",
                                                "typed_config": {
                                                    "@type": LOGGER,
                                                    "path": "/dev/null",
                                                    "log_format": {"text_format_source": {"inline_string": text}},
                                                },
                                            }
                                        ],
                                        "route_config": {},
                                    },
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "envoy.json"
        file.write_text(json.dumps(config))
        done = subprocess.run([binary, "--mode", "validate", "-c", str(file)], capture_output=True, text=True)
    return done.returncode == 0
