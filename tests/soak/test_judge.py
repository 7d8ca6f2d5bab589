"""The referee of the soak is seen red: each thing that it is there to find is put before it, and found."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading

import pytest

from tests.soak import census, judge
from tests.soak.history import Call, Child, Disturbance, Execution, History, Ledger, read
from tests.soak.response import answer_in, body_for

GOOD = Call("a-1", 10.0, "threads", "GET", "once.test", "", "answered", 10.5, "a-1", 200, endpoint="127.0.0.1:8001")
BROKEN = dataclasses.replace(GOOD, ending="failed", answer="", status=0, error="UpstreamReset")
KILLED = Disturbance("kill", 8001, 10.2, 11.0)


def run(*calls: Call, executed: int = 1, host: str = "", disturbances: tuple[Disturbance, ...] = ()) -> History:
    return History(
        {call.id: call for call in calls},
        {call.id: [Execution(call.id, "1", host or call.host, 8001, 10.1)] * executed for call in calls if executed},
        list(disturbances),
    )


def but(call: Call, **changes: object) -> Call:
    return dataclasses.replace(call, **changes)


def test_a_clean_run_is_clean():
    clean = run(GOOD)
    assert [*judge.crossed(clean), *judge.lost(clean), *judge.doubled(clean)] == []


# -- crossed --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["answered", "partial"])
def test_a_response_with_the_id_of_another_call_is_crossed(ending):
    assert "the response is that of a-2" in judge.crossed(run(but(GOOD, answer="a-2", ending=ending)))[0]


def test_a_request_that_comes_to_another_host_is_crossed():
    assert "executed for the host steady.test" in judge.crossed(run(GOOD, host="steady.test"))[0]


def test_an_execution_that_nobody_called_for_is_crossed():
    ghost = run(GOOD)
    ghost.executions["z-9"] = [Execution("z-9", "1", "once.test", 8001, 10.1)]
    assert judge.crossed(ghost) == ["z-9 was executed, and nobody called it"]


def test_the_copy_of_a_mirror_is_not_crossed():
    assert judge.crossed(run(but(GOOD, host="mirrored.test"), host="mirrored.test-shadow")) == []


def test_a_body_of_another_call_or_of_another_request_is_not_taken_for_ones_own():
    assert answer_in("a-1", body_for(b"a-1", b"sent", 100), b"sent", 100) == "a-1"
    assert answer_in("a-1", body_for(b"a-2", b"sent", 100), b"sent", 100) == "a-2"
    assert answer_in("a-1", body_for(b"a-1", b"other", 100), b"sent", 100).startswith("a garbled a-1")
    mixed = body_for(b"a-1", b"sent", 100)[:60] + body_for(b"a-2", b"sent", 100)[60:]
    assert answer_in("a-1", mixed, b"sent", 100).startswith("a garbled a-1")


# -- lost -----------------------------------------------------------------------------------------------------------------


def test_a_call_without_an_ending_is_lost():
    assert judge.lost(run(but(GOOD, ending="")))[0].endswith("no ending")


def test_a_call_with_two_endings_is_lost():
    assert "and 1 more endings" in judge.lost(run(but(GOOD, again=1)))[0]


def test_an_answer_that_no_server_has_given_is_lost():
    assert "no server has executed it" in judge.lost(run(GOOD, executed=0))[0]


def test_an_answer_without_an_id_is_lost():
    assert "carries no id" in judge.lost(run(but(GOOD, answer="")))[0]


def test_an_answer_of_the_server_that_nobody_asked_for_is_lost():
    assert judge.lost(run(but(GOOD, status=503)))
    assert not judge.lost(run(but(GOOD, status=503, asked="503")))
    assert judge.lost(run(but(GOOD, status=503, asked="503", host="steady.test")))  # its policy retries that


def test_a_failure_without_an_excuse_is_lost():
    assert judge.lost(run(BROKEN))


def test_a_failure_is_excused_when_its_own_endpoint_was_killed_at_that_time():
    assert not judge.lost(run(BROKEN, disturbances=(KILLED,)))
    assert judge.lost(run(BROKEN, disturbances=(dataclasses.replace(KILLED, port=8002),)))
    assert judge.lost(run(BROKEN, disturbances=(dataclasses.replace(KILLED, since=10.6),)))
    assert judge.lost(run(BROKEN, disturbances=(dataclasses.replace(KILLED, since=9.0, until=9.9),)))
    assert judge.lost(run(BROKEN, disturbances=(dataclasses.replace(KILLED, kind="pause"),)))
    assert judge.lost(run(but(BROKEN, endpoint=""), disturbances=(KILLED,)))


def test_a_call_whose_policy_retries_everything_has_no_excuse():
    assert judge.lost(run(but(BROKEN, host="steady.test"), disturbances=(KILLED,)))
    assert judge.lost(run(but(BROKEN, host="steady.test", asked="cut")))
    assert judge.lost(run(but(BROKEN, host="grpc.test", error="UNAVAILABLE", asked="UNAVAILABLE")))


def test_a_response_that_had_begun_cannot_be_retried():
    assert not judge.lost(run(but(BROKEN, host="steady.test", stage="body"), disturbances=(KILLED,)))
    assert judge.lost(run(but(BROKEN, host="steady.test", stage="body")))


def test_a_failure_to_connect_is_retried_by_istios_default():
    assert judge.lost(run(but(BROKEN, host="default.test", error="ConnectFailed"), disturbances=(KILLED,)))
    for error in ("UpstreamReset", "ConnectionReset"):
        assert not judge.lost(run(but(BROKEN, host="default.test", error=error), disturbances=(KILLED,)))


def test_an_idle_connection_that_is_closed_excuses_only_a_post_that_was_not_executed():
    closed = Disturbance("idle-close", 8001, 10.2, 10.2)
    assert not judge.lost(run(but(BROKEN, kind="POST"), executed=0, disturbances=(closed,)))
    assert judge.lost(run(but(BROKEN, kind="POST"), executed=1, disturbances=(closed,)))
    assert judge.lost(run(BROKEN, executed=0, disturbances=(closed,)))  # a GET is sent again


def test_what_a_caller_did_to_its_own_call_must_have_ended_it_that_way():
    assert not judge.lost(run(but(BROKEN, asked="cancel", ending="cancelled")))
    assert judge.lost(run(but(BROKEN, ending="cancelled")))
    assert judge.lost(run(but(BROKEN, asked="cancel")))
    assert not judge.lost(run(but(BROKEN, asked="timeout", error="UpstreamTimeout")))
    assert judge.lost(run(but(BROKEN, asked="timeout")))
    assert judge.lost(run(but(GOOD, ending="partial")))


@pytest.mark.parametrize("error", ["RuntimeError", "AttributeError", "KeyError", "CancelledError", "MeshClosed"])
def test_an_exception_that_is_not_documented_has_no_excuse(error):
    assert judge.lost(run(but(BROKEN, error=error), disturbances=(KILLED,)))
    assert judge.lost(run(but(BROKEN, error=error, asked="cut")))


def test_a_refusal_is_excused_only_where_a_policy_may_refuse():
    refused = but(GOOD, status=503, answer="", flags="UO", host="guarded.test")
    assert not judge.lost(run(refused, executed=0))
    assert judge.lost(run(but(refused, host="once.test"), executed=0))
    assert judge.lost(run(but(refused, flags="UH"), executed=0))


# -- executed too often ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["once.test", "default.test", "guarded.test", "h2once.test", "outside"])
def test_a_post_that_is_executed_twice_is_found(host):
    assert "executed 2 times" in judge.doubled(run(but(GOOD, kind="POST", host=host), executed=2))[0]


def test_a_grpc_call_that_is_executed_twice_is_found():
    assert judge.doubled(run(but(GOOD, kind="unary", host="grpconce.test"), executed=2))


def test_retries_may_execute_a_post_again_but_not_without_end():
    post = but(GOOD, kind="POST", host="steady.test")
    assert not judge.doubled(run(post, executed=2))
    assert judge.doubled(run(post, executed=20))


def test_a_get_may_be_resent_once_on_a_fresh_connection():
    assert not judge.doubled(run(GOOD, executed=2))
    assert judge.doubled(run(GOOD, executed=3))


def test_a_copy_where_nothing_is_mirrored_is_found():
    found = run(but(GOOD, kind="POST"), executed=1)
    found.executions["a-1"].append(Execution("a-1", "1", "once.test-shadow", 8001, 10.1))
    assert "mirrored 1 times" in judge.doubled(found)[0]


# -- leaks ----------------------------------------------------------------------------------------------------------------


def test_a_descriptor_that_stays_open_is_found():
    before = census.descriptors()
    with socket.socket():
        (found,) = judge.leaks(before, census.descriptors())
        assert found.startswith("descriptor socket:")
    assert judge.leaks(before, census.descriptors()) == []


def test_a_thread_that_stays_is_found():
    before, stop = census.threads(), threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-7")
    thread.start()
    assert judge.leaks(before, census.threads()) == ["thread left: 0 before, 1 after"]
    stop.set()
    thread.join()


def test_a_slot_that_is_not_given_back_is_found():
    assert judge.left_behind({"active of a": 0, "pending of a": 1}) == ["pending of a is 1"]


def test_a_child_that_fails_or_hangs_is_found():
    assert judge.stuck([Child(1, 0, 0.1)]) == []
    assert judge.stuck([Child(2, 2, 0.1), Child(3, None, 120.0)]) == [
        "child 2: exit code 2 after 0.1 s",
        "child 3: had to be killed after 120.0 s",
    ]


def test_memory_that_rises_in_the_last_half_is_found():
    mib = 1 << 20
    flat = [(float(t), 100.0 * mib + (t % 7) * 0.1 * mib) for t in range(300)]
    rising = [(at, size + at / 60 * 1.5 * mib) for at, size in flat]
    filling = [(at, size + min(at, 120) * mib) for at, size in flat]
    assert judge.rising(flat) == []
    assert judge.slope(rising) == pytest.approx(1.5 * mib, rel=0.1)
    assert judge.rising(rising)
    assert judge.rising(filling) == []  # caches fill up at first


def test_a_process_that_stood_still_is_found():
    assert judge.gaps([(1.0, 0), (2.0, 0), (90.0, 0)], 60) == ["nothing was heard of the callers for 88 s"]


# -- what is written down is what is judged -------------------------------------------------------------------------------


def test_what_callers_servers_and_the_fleet_write_is_what_the_referee_reads(tmp_path):
    ledger = Ledger(tmp_path / "calls-1.jsonl")
    ledger.begin("a-1", "threads", "GET", "once.test", "")
    ledger.end("a-1", "failed", error="UpstreamReset", endpoint="127.0.0.1:8001")
    ledger.begin("a-2", "threads", "GET", "once.test", "")
    ledger.end("a-2", "answered", status=200, answer="a-1")
    ledger.end("a-2", "answered", status=200, answer="a-2")
    ledger.begin("a-3", "threads", "GET", "once.test", "")
    ledger.close()
    (tmp_path / "server-8001.jsonl").write_text('["x","a-2","1","once.test",8001,1.5]\n["x","a-')  # killed as it wrote
    found = read(tmp_path)
    assert len(judge.lost(found)) == 3
    assert len(judge.crossed(found)) == 1
    fleet = Ledger(tmp_path / "fleet.jsonl")
    fleet.write("kill", 8001, 0.0, 1e12)
    fleet.close()
    assert len(judge.lost(read(tmp_path))) == 2
    assert os.listdir(tmp_path)
