"""The hop to the application: to a port, to a unix socket, told by nobody but the request that it is for."""

from __future__ import annotations

import http.server
import socketserver
import threading

import pytest

from meshlib.proxy.inbound_hop import UNTOLD
from tests.support.eventually import eventually
from tests.support.inbound_policies import authorization_policy
from tests.support.inbound_proxy import InboundProxy
from tests.support.resources import destination_rule
from tests.support.servers import EchoServer
from tests.support.spans import Kept


class OnUnixSocket(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Says(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def test_an_application_on_a_unix_socket(tmp_path):
    path = str(tmp_path / "app.sock")
    with OnUnixSocket(path, Says) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with InboundProxy(f"unix://{path}", policy_port=9080) as proxy, proxy.client() as client:
            assert [client.get().body for _ in range(3)] == [b"ok"] * 3
        server.shutdown()


def test_a_unix_socket_that_is_not_there_is_a_503(tmp_path):
    with InboundProxy(f"unix://{tmp_path}/none.sock", policy_port=9080) as proxy, proxy.client() as client:
        assert client.get().status == 503


def test_limits_of_the_destination_rule_count():
    clients = []
    rule = destination_rule("reviews", connectionPool={"http": {"maxRequestsPerConnection": 1}})
    with EchoServer(behave=lambda handler: clients.append(handler.client_address) or False) as app:
        with InboundProxy(app.port, rule, policy_port=9080) as proxy, proxy.client() as client:
            assert [client.get().status for _ in range(3)] == [200] * 3
    assert len(set(clients)) == 3


def test_one_span_a_request_and_its_parent_is_the_callers():
    kept = Kept()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with (
        EchoServer() as app,
        InboundProxy(app.port, tracer_provider=kept.provider) as proxy,
        proxy.client() as client,
    ):
        assert client.get("/", "GET", "reviews", f"traceparent: {trace}").status == 200
        assert eventually(lambda: kept.spans)
        (span,) = kept.spans
    assert (span.kind.name, f"{span.context.trace_id:032x}") == ("SERVER", trace.split("-")[1])
    assert span.attributes["http.response.status_code"] == 200


@pytest.mark.parametrize("method", ["began", "ended", "broken"])
def test_nobody_is_told_of_the_hop_itself(method):
    arguments = (object(),) if method == "began" else (object(), None)
    assert getattr(UNTOLD, method)(*arguments) is None
    assert UNTOLD.spanned(None, "exchange") == "exchange"


LINE = (
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% "
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%\n"
)


def logged(tmp_path, port, *resources):
    """The line of one request."""
    file = tmp_path / "access.log"
    options = {"access_log": str(file), "access_log_format": LINE}
    with InboundProxy(port, *resources, policy_port=9080, **options) as proxy, proxy.client() as client:
        client.get()
        assert eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    return file.read_text()


def test_the_access_log_says_where_it_went(tmp_path):
    with EchoServer() as app:
        line = logged(tmp_path, app.port)
    assert line == f"200 - via_upstream 127.0.0.1:{app.port} inbound|9080|| 1\n"


def test_the_access_log_says_what_went_wrong_on_the_way(tmp_path):
    with EchoServer() as app:
        port = app.port
    line = logged(tmp_path, port)
    assert line.startswith("503 UF,URX upstream_reset_before_response_started{remote_connection_failure|")
    assert line.endswith(f" 127.0.0.1:{port} inbound|9080|| 3\n")


def test_the_access_log_says_nothing_of_a_hop_that_was_not_made(tmp_path):
    with EchoServer() as app:
        line = logged(tmp_path, app.port, authorization_policy("p", "DENY", {}))
    assert line.startswith("403 - rbac_access_denied_matched_policy")
    assert line.endswith(" - inbound|9080|| -\n")
