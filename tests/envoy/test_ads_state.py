"""What an Envoy is sent, in which order, and what becomes of what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meshlib.envoy.ads_state import PATIENCE, AdsState, Packed, Rejection, Response, Stream
from meshlib.envoy.messages import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from tests.support.fake_clock import FakeClock

SHORT = {CLUSTER: "C", ENDPOINTS: "E", LISTENER: "L", ROUTES: "R", SECRET: "S"}


def made(*clusters: str, routes: str = "r1", endpoints: str = "") -> Packed:
    return {
        CLUSTER: {name: name.encode() for name in clusters},
        ENDPOINTS: {name: (name + endpoints).encode() for name in clusters},
        LISTENER: {"outbound": b"listener"},
        ROUTES: {"outbound": routes.encode()},
    }


class Envoy:
    """One that is well behaved; ``refuses`` says what it does not take."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.has: dict[str, tuple[bytes, ...]] = {}
        self.refuses: dict[bytes, str] = {}
        self.silent = False
        self.stream = scene.state.joined()
        self._nonces = {CLUSTER: "", LISTENER: ""}
        scene.envoys[id(self.stream)] = self
        for kind in (CLUSTER, LISTENER):
            scene.state.heard(self.stream, kind, frozenset(), "", None)

    def sent(self, response: Response) -> None:
        error = next((self.refuses[each] for each in response.resources if each in self.refuses), None)
        if error is None:
            self.has[response.kind] = response.resources
        if self.silent:
            return
        wanted: dict[str, frozenset[str]] = {
            ENDPOINTS: frozenset(each.decode() for each in self.has.get(CLUSTER, ())),
            ROUTES: frozenset(["outbound"] if self.has.get(LISTENER) else []),
        }
        known = wanted.get(response.kind, frozenset())
        self._scene.state.heard(self.stream, response.kind, known, response.nonce, error)
        for kind, names in wanted.items():
            if names and self._scene.asked.get((id(self.stream), kind)) != names:
                self._scene.asked[id(self.stream), kind] = names
                self._scene.state.heard(self.stream, kind, names, "", None)


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.envoys: dict[int, Envoy] = {}
        self.asked: dict[tuple[int, str], frozenset[str]] = {}
        self.log: list[str] = []
        self.rejections: list[Rejection] = []
        self.taken = 0
        self._queue: list[tuple[Stream, Response]] = []
        self.state = AdsState(self.clock.monotonic, self._send, self.rejections.append, self._took)

    def _send(self, stream: Stream, response: Response) -> None:
        self._queue.append((stream, response))

    def _took(self) -> None:
        self.taken += 1

    def run(self) -> None:
        """Until nothing is on its way."""
        while self._queue:
            stream, response = self._queue.pop(0)
            text = " ".join(each.decode() for each in response.resources)
            self.log.append(f"{SHORT[response.kind]}: {text}")
            self.envoys[id(stream)].sent(response)

    def offer(self, target: Packed) -> None:
        self.state.offer(target)
        self.run()


def begun(*clusters: str) -> tuple[Scene, Envoy]:
    """An Envoy that has taken these."""
    scene = Scene()
    scene.offer(made(*clusters))
    envoy = Envoy(scene)
    scene.run()
    scene.log.clear()
    return scene, envoy


def test_who_comes_gets_all_that_it_asks_for() -> None:
    scene, envoy = begun("a", "b")
    assert envoy.has == {CLUSTER: (b"a", b"b"), ENDPOINTS: (b"a", b"b"), LISTENER: (b"listener",), ROUTES: (b"r1",)}
    assert (scene.taken, scene.rejections) == (1, [])


def test_what_is_as_it_was_is_not_sent() -> None:
    scene, _ = begun("a")
    scene.offer(made("a"))
    assert scene.log == []
    scene.offer(made("a", endpoints="2"))
    assert scene.log == ["E: a2"]
    scene.offer(made("a", endpoints="2", routes="r2"))
    assert scene.log == ["E: a2", "R: r2"]


def test_no_route_leads_to_a_cluster_that_is_not_there_yet_or_no_more() -> None:
    scene, _ = begun("a")
    scene.offer(made("b", routes="r2"))
    assert [line for line in scene.log if line[0] in "CR"] == ["C: a b", "R: r2", "C: b"]


def test_a_cluster_that_is_made_anew_gets_its_endpoints_again() -> None:
    scene, _ = begun("a")
    target = {**made("a"), CLUSTER: {"a": b"a"}}
    scene.offer({**target, CLUSTER: {"a": b"a", "b": b"b"}, ENDPOINTS: {"a": b"a"}})
    assert scene.log[:2] == ["C: a b", "E: a"]


def test_what_is_refused_takes_all_of_it_back() -> None:
    scene, envoy = begun("a")
    envoy.refuses[b"bad"] = "no such field in route r"
    scene.offer(made("a", "b", routes="bad"))
    assert [(each.kind, each.message, each.kept) for each in scene.rejections] == [
        (ROUTES, "no such field in route r", True)
    ]
    assert "the last good configuration stays" in scene.rejections[0].text
    assert envoy.has == {CLUSTER: (b"a",), ENDPOINTS: (b"a",), LISTENER: (b"listener",), ROUTES: (b"r1",)}
    scene.offer(made("a", "b", routes="r3"))
    assert envoy.has[ROUTES] == (b"r3",)
    assert scene.taken == 2


def test_a_first_configuration_that_is_refused_has_none_before_it() -> None:
    scene = Scene()
    scene.offer(made("a", routes="bad"))
    envoy = Envoy(scene)
    envoy.refuses[b"bad"] = "no"
    scene.run()
    assert [each.kept for each in scene.rejections] == [False]
    assert scene.taken == 0


def test_what_one_that_comes_back_gets_is_the_last_good_one() -> None:
    scene, envoy = begun("a")
    envoy.refuses[b"bad"] = "no"
    scene.offer(made("a", routes="bad"))
    scene.state.left(envoy.stream)
    again = Envoy(scene)
    scene.run()
    assert again.has[ROUTES] == (b"r1",)


def test_while_nobody_is_there_the_last_that_was_offered_counts() -> None:
    scene, envoy = begun("a")
    scene.state.left(envoy.stream)
    assert not scene.state.connected
    scene.offer(made("b", routes="r2"))
    again = Envoy(scene)
    scene.run()
    assert (again.has[CLUSTER], again.has[ROUTES]) == ((b"b",), (b"r2",))


def test_an_envoy_that_goes_amid_a_change_leaves_all_of_it_to_the_next() -> None:
    scene, envoy = begun("a")
    envoy.silent = True
    scene.offer(made("b", routes="r2"))
    assert ROUTES in envoy.has
    assert envoy.has[ROUTES] == (b"r1",), "the step before it is not over"
    scene.state.left(envoy.stream)
    again = Envoy(scene)
    scene.run()
    assert (again.has[CLUSTER], again.has[ROUTES]) == ((b"b",), (b"r2",))


def test_who_says_nothing_is_waited_for_so_long_and_no_longer() -> None:
    scene, envoy = begun("a")
    envoy.silent = True
    scene.offer(made("a", "b", routes="r2"))
    scene.clock.advance(PATIENCE - 1)
    scene.state.tick()
    assert scene.log == ["C: a b", "E: a"]
    scene.clock.advance(1)
    scene.state.tick()
    scene.run()
    assert scene.log[-1] == "R: r2"


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_what_is_said_of_an_overtaken_response_counts_for_nothing(names: Sequence[str]) -> None:
    scene, envoy = begun("a")
    scene.state.heard(envoy.stream, ENDPOINTS, frozenset(names), "0", "no")
    scene.run()
    assert (scene.rejections, scene.log) == ([], [])


def test_kinds_that_are_not_ours_are_left_unanswered() -> None:
    scene, envoy = begun("a")
    scene.state.heard(envoy.stream, "type.googleapis.com/other", frozenset(), "", None)
    assert scene.log == []


@pytest.mark.parametrize("refused", [None, "an Ed25519 key"])
def test_a_listener_is_taken_when_the_secrets_that_it_asks_for_are(refused: str | None) -> None:
    scene, envoy = begun("a")
    scene.offer(
        {**made("a"), LISTENER: {"outbound": b"plain", "other": b"tls"}, SECRET: {"other": b"its", "more": b"x"}}
    )
    heard, stream, one, both = scene.state.heard, envoy.stream, frozenset(["other"]), frozenset(["other", "more"])
    assert scene.taken == 2, "nobody has asked for a secret"
    heard(stream, SECRET, one, "", None)
    scene.run()
    envoy.silent = True
    tls = {**made("a"), LISTENER: {"outbound": b"plain", "other": b"tls", "new": b"tls"}}
    scene.offer({**tls, SECRET: {"other": b"its", "more": b"y"}})
    listened = stream.nonces[LISTENER]
    heard(stream, SECRET, both, "", None)  # Envoy asks before it says that it has taken the listener
    heard(stream, LISTENER, frozenset(), listened, None)
    assert scene.taken == 2, "not yet: there is a secret to come"
    scene.run()
    envoy.silent = False
    heard(stream, SECRET, both, stream.nonces[SECRET], refused)
    scene.run()
    if refused is None:
        assert (scene.taken, scene.rejections) == (3, [])
    else:
        assert scene.rejections == [Rejection(SECRET, refused, kept=True)]
        assert envoy.has[LISTENER] == (b"tls", b"plain"), "all goes back"
