"""The keys of issuers: fetched through the mesh when the first token needs them, and kept fresh beside requests.

Whoever needs keys that are not there waits for one fetch, however many wait. Keys older than ``REFRESH`` are fetched again in
the background; while that fails, the last good ones serve until they are ``MAX_AGE`` old. Then there are none, and tokens are
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from threading import Lock
from typing import TYPE_CHECKING

from meshlib.engine.effects import Ask, Deliver
from meshlib.engine.flights import Flights
from meshlib.engine.outcome import Outcome
from meshlib.policy.key_urls import BadKeyUrl, KeyUrl, key_url, redirected
from meshlib.policy.secret_values import url_shown
from meshlib.security.jwk import BadKeys, KeySet, key_set
from meshlib.security.strict_json import NotJson, loads

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.compiler.token_rules import KeySource
    from meshlib.engine.effects import Exchange, Step
    from meshlib.engine.plain_request import PlainRequest

    Asker = Callable[[PlainRequest, float | None], Exchange[PlainRequest]]
    Fetching = Generator[Step[PlainRequest], None, None]

REFRESH = 20 * 60.0
"""Seconds, as istiod."""
MAX_AGE = 24 * 3600.0
"""Seconds. istiod keeps keys for a week."""
MAX_BYTES = 1024 * 1024
UNKNOWN_KID = 10.0
"""Seconds between fetches because of tokens whose key is not known."""
MAX_PAUSE = 10.0
MAX_PAUSE_WITH_KEYS = 60.0
"""Seconds between fetches that fail; the first pause is one second, each as long again as the one before."""
TIMEOUT_HEADER = "x-envoy-upstream-rq-timeout-ms"
"""It bounds the whole response, not its head alone, and stays in the mesh."""
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 3


class FetchFailed(Exception):
    """Why, for people; nothing of a response is in it."""


class HeldKeys:
    """What is known of one source. ``keys`` None: none yet; times are monotonic. ``attempts`` counts fetches that have
    ended, ``failures`` those since the last good one, ``error`` says why."""

    __slots__ = ("attempted", "attempts", "begun", "error", "failures", "fetched", "keys", "source")

    def __init__(self, source: KeySource) -> None:
        self.source = source
        self.keys: KeySet | None = None
        self.fetched = 0.0
        self.attempted = 0.0
        self.begun = float("-inf")  # the last fetch in the background, which may have been dropped
        self.attempts = 0
        self.failures = 0
        self.error = ""

    def usable(self, now: float) -> KeySet | None:
        """The keys, unless they are too old."""
        return self.keys if self.keys is not None and now - self.fetched < MAX_AGE else None

    def due(self, now: float) -> bool:
        """Whether the keys should be fetched again in the background."""
        aged = self.keys is not None and now - self.fetched >= REFRESH
        return aged and now - self.begun >= MAX_PAUSE and self.may_fetch(now)

    def may_fetch(self, now: float) -> bool:
        """Not while a failure is too recent."""
        if not self.failures:
            return True
        most = MAX_PAUSE if self.keys is None else MAX_PAUSE_WITH_KEYS
        return now - self.attempted >= min(2.0 ** min(self.failures - 1, 10), most)

    def may_look_again(self, now: float) -> bool:
        """Whether a token whose key is not known is worth a fetch."""
        return now - self.attempted >= UNKNOWN_KID

    def __repr__(self) -> str:
        return f"<HeldKeys {self.keys} failures={self.failures}>"


class KeySets:
    """Those of one mesh's servers, by URL. ``ask`` makes calls through the mesh; ``report`` hears (URL, why) of the first
    failure after a success."""

    __slots__ = ("_ask", "_clock", "_flights", "_held", "_lock", "report")

    def __init__(self, clock: Clock, ask: Asker) -> None:
        self._clock = clock
        self._ask = ask
        self._held: dict[str, HeldKeys] = {}
        self._flights: Flights[KeySet] = Flights()
        self._lock = Lock()
        self.report: Callable[[str, str], None] | None = None

    def held(self, source: KeySource) -> HeldKeys:
        """What is known of a source: the same from one configuration to the next."""
        with self._lock:
            found = self._held.get(source.key)
            if found is None:
                found = self._held[source.key] = HeldKeys(source)
            found.source = source
            return found

    def retain(self, sources: Collection[str]) -> None:
        """Forget those that no rule names any more (``KeySource.key``)."""
        with self._lock:
            self._held = {key: held for key, held in self._held.items() if key in sources}

    def after_fork(self) -> None:
        """In a forked child: what was under way is not any more."""
        self._lock = Lock()
        self._flights = Flights()

    def status(self) -> Iterator[dict[str, object]]:
        """Of each source: its URL, number of keys, their age in seconds (None: there are none), failures and the last error."""
        now = self._clock.monotonic()
        for _, held in sorted(self._held.items()):
            yield {
                "url": url_shown(held.source.url),
                "keys": 0 if held.keys is None else len(held.keys.keys),
                "age_seconds": None if held.keys is None else round(now - held.fetched, 1),
                "usable": held.usable(now) is not None,
                "failures": held.failures,
                "error": held.error,
            }

    def obtain(self, held: HeldKeys) -> Fetching:
        """Fetch the keys of a source, or wait for whoever does, at most the source's timeout. What came of it is in
        ``held``."""
        clock, source = self._clock.monotonic, held.source
        until = clock() + source.timeout
        while True:
            before = held.attempts
            left = until - clock()
            if left <= 0:
                return
            yield from self._flights.fetch(source.key, lambda: self._fetch(held), left)
            if held.attempts != before:
                return
            # who was fetching has been cancelled: somebody else must

    def begin_refresh(self, held: HeldKeys) -> Exchange[PlainRequest] | None:
        """The exchange, for ``Spawn``, that fetches keys which are due; None when they are not, or when another has it."""
        now = self._clock.monotonic()
        with self._lock:
            if not held.due(now):
                return None
            held.begun = now
        return self._refresh(held)

    def _refresh(self, held: HeldKeys) -> Exchange[PlainRequest]:
        yield from self.obtain(held)
        yield Deliver(Outcome(status=200, whole=b""))

    def _fetch(self, held: HeldKeys) -> Generator[Step[PlainRequest], None, KeySet | None]:
        source = held.source
        keys: KeySet | None = None
        why = ""
        try:
            url = source.url
            if source.discovery:
                url = _jwks_uri((yield from self._get(url, source.timeout)))
            content = yield from self._get(url, source.timeout)
            keys = key_set(content)
            if not keys.keys:
                why = "none of its keys can be used" if keys.unusable else "it has no keys"
        except (FetchFailed, BadKeyUrl, BadKeys, ImportError) as error:
            why = str(error)
        held.attempted = self._clock.monotonic()
        if why or keys is None:
            held.failures += 1
            held.error = why
            held.attempts += 1
            if held.failures == 1 and self.report is not None:
                self.report(url_shown(source.url), why)
            return None
        held.keys, held.fetched = keys, held.attempted
        held.failures, held.error = 0, ""
        held.attempts += 1
        return keys

    def _get(self, url: str, timeout: float) -> Generator[Step[PlainRequest], None, bytes]:
        """The document at ``url``. Raises ``FetchFailed``, ``BadKeyUrl``."""
        found = key_url(url)
        for _ in range(_MOST_REDIRECTS + 1):
            asked = Ask(self._ask(_request(found, timeout), timeout), MAX_BYTES)
            yield asked
            outcome = asked.outcome
            if outcome.failure is not None:
                raise FetchFailed(f"{outcome.failure.name.lower().replace('_', ' ')}: {outcome.detail}")
            if outcome.status not in _REDIRECTS:
                break
            location = _location(outcome)
            if not location:
                raise FetchFailed(f"status {outcome.status} without a location")
            found = redirected(found, location)
        if outcome.status != 200:
            raise FetchFailed(f"status {outcome.status}" if outcome.status not in _REDIRECTS else "too many redirects")
        return outcome.whole or b""


def _location(outcome: Outcome) -> str:
    return next((value.decode("latin-1") for name, value in outcome.headers if name.lower() == b"location"), "")


def _request(url: KeyUrl, timeout: float) -> PlainRequest:
    from meshlib.engine.plain_request import PlainRequest

    headers = {"accept": "application/json", TIMEOUT_HEADER: str(max(1, round(timeout * 1000)))}
    if url.credentials:
        headers["authorization"] = f"Basic {url.credentials}"
    return PlainRequest("GET", url.scheme, url.authority, url.target, headers)


def _jwks_uri(content: bytes) -> str:
    """The URL of the keys in a discovery document. Raises ``FetchFailed``."""
    try:
        document = loads(content)
    except NotJson:
        document = None
    found = document.get("jwks_uri") if isinstance(document, dict) else None
    if not isinstance(found, str):
        raise FetchFailed("the discovery document names no jwks_uri")
    return found
