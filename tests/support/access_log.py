"""Entries for access logs that no call has made."""

from __future__ import annotations

from collections.abc import Mapping

from meshlib.engine.plain_request import PlainRequest
from meshlib.telemetry.access_log.entry import Entry

START = 1_460_736_000.25  # 2016-04-15T16:00:00.250Z


class MadeUp(Entry):
    """Of a GET of ``target``, answered 200 after 1.5 s."""

    __slots__ = ("called", "headers_back", "made")

    def __init__(
        self,
        target: str = "/a?b=c",
        headers: Mapping[str, str] | None = None,
        back: Mapping[str, str] | None = None,
        **made: object,
    ) -> None:
        self.request = PlainRequest("GET", "http", "reviews:9080", target, dict(headers or {}))
        self.started, self.ended, self.wall = 10.0, 11.5, START
        self.status, self.flags, self.grpc, self.traced = 200, "", None, None
        self.headers_back = dict(back or {})
        for name, value in made.items():
            setattr(self, name, value)

    def response_header(self, name: str) -> str | None:
        return self.headers_back.get(name)

    def trailer(self, name: str) -> str | None:
        return {"x-trailer": "t"}.get(name)

    def protocol(self) -> str | None:
        return "HTTP/1.1"

    def upstream(self) -> str | None:
        return "10.1.2.3:9080"

    def upstream_local(self) -> str | None:
        return "[2001:db8:1234:5678:9abc:def0:1234:5678]:4711"

    def remote(self) -> str | None:
        return "/run/app.sock"

    def attempted(self) -> list[str]:
        return ["10.1.2.2:9080", "10.1.2.3:9080"]

    def attempts(self) -> int | None:
        return 2

    def details(self) -> str | None:
        return "via upstream"

    def head_at(self) -> float | None:
        return 11.0

    def server_name(self) -> str | None:
        return None

    def claims(self) -> Mapping[str, object] | None:
        return {"iss": "https://issuer", "sub": "me", "groups": ["a", "b"], "deep": {"n": 1}}
