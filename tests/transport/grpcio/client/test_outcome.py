"""grpcio's texts, and the engine's failures that they are read as; held against the installed gRPC core."""

from __future__ import annotations

import subprocess
import sys
import threading

import grpc
import pytest

from meshlib.engine.outcome import Failure
from meshlib.transport.grpcio.client.outcome import GrpcOutcome, ended, failure_of
from tests.support.grpc_echo import EchoServer, Message, stubs

CODES = {code.name: code.value[0] for code in grpc.StatusCode}


@pytest.mark.parametrize(
    ("code", "text", "failure"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:1: refused",
            "CONNECT_FAILED",
        ),
        ("UNAVAILABLE", "DNS resolution failed for echo:9080: Domain name not found", "CONNECT_FAILED"),
        (
            "UNAVAILABLE",
            "errors resolving echo:1: [field:hostname lookup error:address lookup failed for echo:1: Timeout while "
            "contacting DNS servers]",
            "CONNECT_FAILED",
        ),
        ("UNAVAILABLE", "Socket closed", "RESET"),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer", "RESET"),
        ("UNAVAILABLE", "Stream removed (sendmsg: Broken pipe (32))", "RESET"),
        ("UNAVAILABLE", "GOAWAY received; Error code: 2; Debug Text: Cancelling all calls", "REFUSED"),
        ("UNAVAILABLE", "Stream removed (GOAWAY received; Error code: 0; Debug Text: )", "REFUSED"),
        ("UNAVAILABLE", "Stream removed (Socket closed (GOAWAY received; Error code: 0))", "RESET"),
        (
            "UNAVAILABLE",
            "Stream removed (Transport closed (Socket closed (GOAWAY received; Error code: 0)))",
            "REFUSED",
        ),
        ("UNAVAILABLE", "Transport closed (Socket closed)", "REFUSED"),
        ("UNAVAILABLE", "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))", "REFUSED"),
        ("INTERNAL", "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))", "RESET"),
        ("RESOURCE_EXHAUSTED", "RST_STREAM (Received RST_STREAM with error code 11)", "RESET"),
        ("INTERNAL", "Invalid metadata", "INVALID_REQUEST"),
        ("INTERNAL", "database is down", None),
        ("UNAVAILABLE", "closed for today", None),
        ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (2003 vs. 1000)", "INVALID_REQUEST"),
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (203 vs. 100)", None),
        ("RESOURCE_EXHAUSTED", "quota", None),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "TIMEOUT"),
        ("DEADLINE_EXCEEDED", "Stream removed (Deadline Exceeded)", "TIMEOUT"),
        ("DEADLINE_EXCEEDED", "the database took too long", None),
        ("NOT_FOUND", "Socket closed", None),
    ],
)
def test_texts_of_the_core(code, text, failure):
    assert failure_of(CODES[code], text, timed=True) is (None if failure is None else Failure[failure])


def test_a_deadline_nobody_set_is_the_servers_word():
    assert failure_of(CODES["DEADLINE_EXCEEDED"], "Deadline Exceeded", timed=False) is None


def test_a_break_after_the_head_is_an_answer():
    outcome = ended(CODES["UNAVAILABLE"], "Socket closed", (("head", "1"),), None, None, False)
    assert type(outcome) is GrpcOutcome
    assert outcome.grpc_status is None
    assert outcome.health_status == 200


@pytest.mark.parametrize("status", [404, 409, 429, 500, 503])
def test_an_answer_that_is_http_and_not_grpc(status):
    code = {404: "UNIMPLEMENTED", 429: "UNAVAILABLE", 503: "UNAVAILABLE"}.get(status, "UNKNOWN")
    outcome = ended(CODES[code], f"Received http2 header with status: {status}", (), None, None, False)
    assert (outcome.status, outcome.health_status, outcome.grpc_status) == (status, status, None)


def test_an_end_without_a_status_is_not_held_against_the_server():
    outcome = ended(
        CODES["UNKNOWN"], "Stream removed (Data frame with END_STREAM flag received)", (), None, None, False
    )
    assert (outcome.health_status, outcome.grpc_status) == (200, None)


def test_a_status_alone_is_judged_by_its_http_status():
    outcome = ended(CODES["UNAVAILABLE"], "closed for today", (), None, None, False)
    assert (outcome.status, outcome.health_status, outcome.grpc_status) == (200, 503, 14)


# -- what the installed core says -----------------------------------------------------------------------------------------


def said(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().value[0], caught.value.details()


def test_the_core_on_a_refused_connection():
    stub = stubs.EchoStub(grpc.insecure_channel("127.0.0.1:1"))
    assert failure_of(*said(lambda: stub.Unary(Message())), timed=False) is Failure.CONNECT_FAILED


def test_the_core_on_a_name_that_does_not_exist():
    stub = stubs.EchoStub(grpc.insecure_channel("no-such-host.invalid:1"))
    assert failure_of(*said(lambda: stub.Unary(Message(), timeout=20)), timed=True) is Failure.CONNECT_FAILED


def test_the_core_on_invalid_metadata():
    with EchoServer() as server:
        stub = stubs.EchoStub(grpc.insecure_channel(server.address))
        found = said(lambda: stub.Unary(Message(), metadata=(("Upper", "x"),)))
        assert failure_of(*found, timed=False) is Failure.INVALID_REQUEST


def test_the_core_on_a_deadline():
    with EchoServer(script=[60]) as server:
        stub = stubs.EchoStub(grpc.insecure_channel(server.address))
        assert failure_of(*said(lambda: stub.Unary(Message(), timeout=0.05)), timed=True) is Failure.TIMEOUT


KILLED = """
import sys, time
sys.path.insert(0, ".")
from tests.support.grpc_echo import EchoServer
server = EchoServer(script=[60])
print(server.port, flush=True)
while not server.seen:
    time.sleep(0.01)
print("seen", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["Unary", "Expand"])
def test_the_core_on_a_server_that_is_killed(kind):
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        stub = stubs.EchoStub(grpc.insecure_channel(f"127.0.0.1:{port}"))

        def kill_when_it_is_asked() -> None:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()

        killer = threading.Thread(target=kill_when_it_is_asked)
        killer.start()
        call = (lambda: stub.Unary(Message())) if kind == "Unary" else (lambda: list(stub.Expand(Message(count=1))))
        assert failure_of(*said(call), timed=False) is Failure.RESET
        killer.join(60)
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def test_the_core_on_messages_over_the_limits():
    with EchoServer() as server:
        options = [("grpc.max_send_message_length", 100), ("grpc.max_receive_message_length", 100)]
        stub = stubs.EchoStub(grpc.insecure_channel(server.address, options=options))
        assert failure_of(*said(lambda: stub.Unary(Message(text="x" * 200))), timed=False) is Failure.INVALID_REQUEST
        assert failure_of(*said(lambda: stub.Unary(Message(text="x" * 80))), timed=False) is Failure.INVALID_REQUEST


def test_only_a_message_without_anything_else_is_usual():
    assert GrpcOutcome(b"x").usual
    assert not GrpcOutcome(None, at_once=True).usual
    assert not GrpcOutcome(None, code=CODES["UNAVAILABLE"]).usual
    told = GrpcOutcome(b"x")
    told.tell_headers((("a", "b"),), None, "")
    assert not told.usual
