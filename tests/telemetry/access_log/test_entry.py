"""What an entry knows when its side knows nothing more."""

from __future__ import annotations

from meshlib.compiler.access_log.format import Operator
from meshlib.compiler.access_log.operators import OPERATORS
from meshlib.engine.plain_request import PlainRequest
from meshlib.telemetry.access_log.entry import Entry
from meshlib.telemetry.access_log.operators import reader


def bare() -> Entry:
    entry = Entry()
    entry.request = PlainRequest("PUT", "https", "a", "/p?q=1", {"x": "1"})
    entry.started = entry.ended = entry.wall = 1.0
    entry.status, entry.flags, entry.grpc, entry.traced = 0, "", None, None
    return entry


def test_the_request_is_all_it_has() -> None:
    entry = bare()
    assert (entry.method(), entry.path(), entry.authority(), entry.scheme()) == ("PUT", "/p?q=1", "a", "https")
    assert (entry.header("x"), entry.query("q"), entry.query("z")) == ("1", "1", None)


def test_nothing_is_made_up() -> None:
    known = {
        "RESPONSE_FLAGS",
        "RESPONSE_FLAGS_LONG",
        "RESPONSE_CODE",
        "DURATION",
        "HOSTNAME",
        "UNIQUE_ID",
        "ACCESS_LOG_TYPE",
    }
    for name, spec in OPERATORS.items():
        if (
            spec.takes != "argument"
            and name not in known
            and "TIME" not in name
            and not name.startswith(("PATH", "QUERY"))
        ):
            assert reader(Operator(name), lambda: 0.0).read(bare()) is None, name
