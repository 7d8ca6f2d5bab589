"""What upstreams are told to do, in its order, with steps that are reserved for requests to come."""

from __future__ import annotations

import asyncio
import threading

from meshlib.testing.upstreams.script import Gate, Request, Script, Step

ONE, TWO, DEFAULT = Step(delay=1), Step(delay=2), Step()


def test_steps_are_taken_in_their_order_and_then_the_default():
    script = Script(DEFAULT)
    script.add(ONE)
    script.add(TWO, times=2)
    assert [script.take("")[0] for _ in range(4)] == [ONE, TWO, TWO, DEFAULT]


def test_a_reserved_step_is_of_its_request_whoever_comes_between():
    script = Script(DEFAULT)
    script.add(ONE)
    script.add(TWO)
    token, step = script.reserve()
    assert script.take("") == (TWO, False)
    assert step is ONE
    assert script.take(token) == (ONE, True)
    assert script.take(token) == (DEFAULT, False), "a token is good for one request"


def test_what_was_reserved_for_a_request_that_did_not_come_is_the_next_ones():
    script = Script(DEFAULT)
    script.add(ONE)
    token, _ = script.reserve()
    assert script.left == 0
    script.put_back(token)
    script.put_back(token)
    assert script.left == 1
    token, _ = script.reserve()
    script.take(token)
    script.put_back(token)
    assert script.left == 0, "it has come"


def test_a_gate_that_is_open_holds_nobody():
    gate = Gate()
    gate.open()
    gate.hold()
    asyncio.run(gate.hold_async())
    assert gate.waiting == 0


def test_a_gate_lets_through_threads_and_tasks():
    gate = Gate()

    async def go() -> None:
        task = asyncio.ensure_future(gate.hold_async())
        thread = threading.Thread(target=gate.hold)
        thread.start()
        while gate.waiting < 2:
            await asyncio.sleep(0)
        gate.open()
        await task
        thread.join(60)

    asyncio.run(go())
    assert gate.waiting == 0


def test_a_request_shows_no_secret():
    request = Request("POST", "/login", (("authorization", "Bearer s3cret"),), b"password=s3cret")
    assert "s3cret" not in repr(request)
    assert request.header("Authorization") == "Bearer s3cret"
