"""A call that makes calls: customer -> orders (asyncio) -> catalog (threads), as streams, with a deadline, in a trace."""

from __future__ import annotations

from collections import Counter

from meshlib.demo.odds import misses
from meshlib.demo.report import counts
from meshlib.demo.shop.play.routes import CANARY
from meshlib.demo.shop.play.scenario import Stage, differs

LINES = tuple((name, quantity) for quantity, name in enumerate(("cup", "pot", "assam", "sencha", "sidamo") * 4, 1))
ROUNDS = 12
DEADLINE = 0.3
LATE = 0.35
"""Seconds within which a call with that deadline must have ended on a busy machine, after it has passed."""
ROUNDED_UP_MS = 2
"""gRPC sends time limits rounded up, by at most a millisecond in each of two calls."""
TRIES = 5
"""A busy machine may need longer than that deadline; what the catalog sees of it is to be shown, not how fast it is."""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)


def play_orders(stage: Stage) -> None:
    """Streams to the server and both ways come through complete and in order."""
    stage.begin(
        "client streaming, both ways streaming", "", "orders has no route of its own; it asks catalog for each price"
    )
    prices = {product.id: product.cents for product in stage.customer.listed().messages}

    answer = stage.customer.order(LINES, CANARY)
    why = differs("status", answer.code, "OK")
    text = f"{answer.code} {answer.details}"
    if not why:
        receipt = answer.message
        why += differs("lines", [(line.product_id, line.quantity) for line in receipt.lines], list(LINES))
        why += differs("total", receipt.total_cents, sum(prices[name] * quantity for name, quantity in LINES))
        asked = Counter(line.catalog_version for line in receipt.lines)
        why += misses(asked, {"v2": 1.0})
        text = f"{len(receipt.lines)} lines, {receipt.total_cents / 100:.2f} in all, prices from {counts(asked)}"
    stage.saw("an order, x-canary: yes", f"{len(LINES)} lines in order, all from v2", text, why)

    start, step = prices["pot"] // 2, prices["pot"] // 20
    answer = stage.customer.negotiate("pot", start, step, ROUNDS)
    offers = [start + step * at for at in range(ROUNDS)]
    why = differs("status", answer.code, "OK")
    why += differs("rounds", [counter.round for counter in answer.messages], list(range(1, ROUNDS + 1)))
    wanted = [offer if offer * 100 >= prices["pot"] * 90 else (offer + prices["pot"]) // 2 for offer in offers]
    why += differs("answers", [counter.cents for counter in answer.messages], wanted)
    accepted = sum(counter.accepted for counter in answer.messages)
    text = f"{len(answer.messages)} offers, each answered before the next; {accepted} accepted"
    stage.saw("haggling", f"{ROUNDS} answers in order", text, why)


def play_deadline(stage: Stage) -> None:
    """What is left of the customer's time arrives at the end of the chain, and so does the trace."""
    stage.begin("deadline and trace", "products", f"the customer gives {DEADLINE * 1000:g} ms, and a traceparent")
    for _ in range(TRIES):
        answer = stage.customer.order(LINES, TRACEPARENT, timeout=DEADLINE)
        if answer.code == "OK":
            break
    why = differs("status", answer.code, "OK")
    text = f"{answer.code} {answer.details}"
    if not why:
        left = [line.catalog_time_left_ms for line in answer.message.lines if line.HasField("catalog_time_left_ms")]
        if len(left) < len(LINES):
            why.append(f"catalog knew of no deadline for {len(LINES) - len(left)} of {len(LINES)} lines")
        elif not 0 < left[-1] < left[0] <= DEADLINE * 1000 + ROUNDED_UP_MS or left[-1] >= DEADLINE * 1000:
            why.append(f"catalog saw {left[0]} ms left at the first line and {left[-1]} at the last")
        traces = {line.catalog_trace_id for line in answer.message.lines}
        why += differs("traces", traces, {TRACE})
        if not why:
            text = f"catalog had {left[0]} ms left at the first line, {left[-1]} at the last, in trace {TRACE}"
    stage.saw("in time", "catalog sees less time and the same trace", text, why)

    stage.shop.drill("slow", "v1", "v2")
    try:
        answer = stage.customer.order((("cup", 1),) * 3, timeout=DEADLINE)
    finally:
        stage.shop.drill("none", "v1", "v2")
    why = differs("status", answer.code, "DEADLINE_EXCEEDED")
    if not DEADLINE * 0.9 <= answer.seconds <= DEADLINE + LATE:
        why.append(f"it took {answer.seconds:.2f} s")
    text = f"{answer.code} after {answer.seconds * 1000:.0f} ms"
    stage.saw("catalog is slow", f"DEADLINE_EXCEEDED after {DEADLINE * 1000:g} ms", text, why)
