"""Ways take turns: a round of each, again and again, so that what disturbs one disturbs all; and rows made of their rounds."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from meshlib.bench import plan, scene
from meshlib.bench.http_client import AUTHORITY
from meshlib.bench.measuring import GENERATOR as GENERATORS_CPU
from meshlib.bench.measuring import GENERATORS_SHARE, PERCENTILES, Asked, upper_ms
from meshlib.bench.plan import Pace, Part, Point, Way
from meshlib.bench.processes import Died, NotMeasured, Process, python
from meshlib.bench.result import CLOSED, CPU, MEMORY, RATE, Measure, Row
from meshlib.bench.scene import NO_ENVOY, Hops, Scene

REPLY_SECONDS = 60.0
SERVER_CPU = "server cpu/1000"
GENERATOR_CPU = "generator cpu/1000"
"""Of the load generator, which is no part of what is measured: a process of its own, or in an open loop that of the client,
where it is measured with calls that do nothing."""
NOISY = 0.1
"""Of the time that processes waited for a core others had, from which on a run is called noisy."""
LATE = "late p99"
"""How long after it was due a call began, in ms: beyond a ms or two the generator could not keep the rate."""
PROGRAMS = {plan.LIBRARY: "meshlib.bench.http_client", plan.GRPC: "meshlib.bench.grpc_client"}
GENERATOR = "meshlib.bench.generator"


@dataclass
class Running:
    """A way whose processes run: the client's, and the ``others`` that are measured: proxies, a server. ``counts_client``: it
    is measured, too; a load generator is not."""

    way: Way
    client: Process
    others: tuple[Process, ...]
    counts_client: bool

    @property
    def processes(self) -> tuple[Process, ...]:
        """Those whose CPU time and memory the row has."""
        return (self.client, *self.others) if self.counts_client else self.others


@dataclass
class Taken:
    """The rounds of a way at a point, by measure."""

    values: dict[str, list[float]] = field(default_factory=dict)
    buckets: dict[int, int] = field(default_factory=dict)
    waited: list[float] = field(default_factory=list)
    """Of a round's time, for how long processes of the row were ready to run and others had their core."""

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    @property
    def rounds(self) -> int:
        return len(self.values.get(RATE, ()))


Said = Callable[[str], None]
Advanced = Callable[[float], None]


class Runner:
    """Measures parts. ``rows`` and ``notes`` are whole at every moment: whoever interrupts it has what was measured until then.
    ``advanced``: is told of seconds of the plan that are over."""

    def __init__(self, pace: Pace, said: Said, advanced: Advanced) -> None:
        self.pace = pace
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.died = False
        """Whether a process that was needed ended by itself."""
        self._waited: dict[str, list[float]] = {}
        self._said = said
        self._advanced = advanced

    def note(self, sentence: str) -> None:
        """Once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self._said(sentence)

    def waiting(self) -> list[str]:
        """Whether others used the machine as well, or it has too few cores, in a sentence for each kind of load."""
        made = []
        for where, parts in self._waited.items():
            middle = statistics.median(parts)
            if middle > NOISY:
                made.append(
                    f"{where}: not an idle machine, or too few cores for what runs beside each other; threads waited for a "
                    f"core for {middle:.0%} of the time in the middle round (all of a row's threads together)"
                )
        return made

    def seconds(self, part: Part) -> float:
        """That a part takes, about."""
        own = part.group in PROGRAMS
        pace = plan.pace_of(self.pace, part.group)
        rounds = [pace.seconds * (1.0 + GENERATORS_SHARE * (own and point.rate > 0)) for point in part.points]
        return len(part.ways) * (1.0 + (pace.rounds + 1) * sum(each + 0.01 for each in rounds))

    def measure(self, part: Part) -> None:
        """A part; what cannot be measured is noted."""
        left = self.seconds(part)
        try:
            with scene.opened(part.settings) as made:
                for sentence in made.notes:
                    self.note(sentence)
                ways = self._started(part, made)
                self._advanced(len(part.ways) * 1.0)
                left -= len(part.ways) * 1.0
                for n, point in enumerate(part.points):
                    self._said(f"{part.group}: {told(part, point)}")
                    each = left / (len(part.points) - n)
                    self._point(part, point, made, ways, each)
                    left -= each
        except (NotMeasured, OSError) as error:
            self.note(f"{part.group} ({part.world}) is left out: {error}")
        except Died as error:
            self.died = True
            self.note(f"{part.group} ({part.world}) was broken off: {error}; what was measured before is kept")
        self._advanced(max(0.0, left))

    def _started(self, part: Part, made: Scene) -> list[Running]:
        ways: list[Running] = []
        hops: dict[str, Hops] = {}
        for way in part.ways:
            why = plan.missing(way)
            if why:
                self.note(why)
                continue
            key = way.name if part.group == plan.SERVERS else f"{way.via} {way.traced}"
            try:
                if key not in hops:
                    hops[key] = _served(way, made) if part.group == plan.SERVERS else _hops(way, made)
                xds = made.control_plane() if way is plan.XDS_GRPC else 0
            except NotMeasured as error:
                self.note(str(error) if str(error) == NO_ENVOY else f"{way.name} is left out: {error}")
                continue
            counts = part.group in PROGRAMS
            name = f"client of {way.name}" if counts else "load generator"
            client = made.start(name, _command(part, way, made, hops[key].port, xds), talks=True)
            ways.append(Running(way, client, hops[key].processes, counts))
        for each in list(ways):
            try:
                each.client.reply(REPLY_SECONDS)
            except Died as error:
                self.note(f"{each.way.name} is left out: {error}")
                ways.remove(each)
        return ways

    def _point(self, part: Part, point: Point, made: Scene, ways: Sequence[Running], planned: float) -> None:
        pace = plan.pace_of(self.pace, part.group)
        asked = Asked(point.in_flight, point.body, pace.seconds, point.rate)
        left = {each.way.name: each for each in ways}
        taken = {name: Taken() for name in left}
        each_round = planned / (max(1, len(ways)) * (pace.rounds + 1))
        with self._rows_of(part, point, left, taken):
            for number in range(pace.rounds + 1):
                # who begins changes, as who comes second meets a warmer machine
                for name in list(left) if number % 2 == 0 else list(reversed(left)):
                    try:
                        _round(left[name], made, asked, taken[name] if number else Taken())
                    except NotMeasured as error:
                        made.check_backend()
                        self.note(f"{name} is left out ({told(part, point)}): {error}")
                        del left[name]
                    self._advanced(each_round)

    @contextlib.contextmanager
    def _rows_of(self, part: Part, point: Point, left: dict[str, Running], taken: dict[str, Taken]) -> Iterator[None]:
        """However the block ends, what was taken becomes rows."""
        try:
            yield
        finally:
            for name, running in left.items():
                if taken[name].rounds:
                    self._waited.setdefault(f"{part.group}, {part.world}", []).extend(taken[name].waited)
                    self.rows.append(_row(part, point, running, taken[name]))


def told(part: Part, point: Point) -> str:
    """For people."""
    row = Row(
        part.group,
        "",
        None,
        part.world,
        point.in_flight,
        point.body,
        part.settings.tls,
        part.settings.rules,
        load(point),
        {},
    )
    return row.conditions


def load(point: Point) -> str:
    return f"open {point.rate:g}/s" if point.rate else CLOSED


def _hops(way: Way, made: Scene) -> Hops:
    """Proxies before the backend. Raises NotMeasured."""
    via = way.via
    if via == plan.DIRECT:
        return Hops(made.tls if made.settings.tls else made.port, ())
    envoy, hops = via in (plan.ENVOY, plan.ENVOYS), 1 if via in (plan.ENVOY, plan.PROXY) else 2
    return made.envoys(hops, traced=way.traced) if envoy else made.meshlib_proxies(hops, traced=way.traced)


def _served(way: Way, made: Scene) -> Hops:
    """A server, and what stands in front of it. Raises NotMeasured."""
    kind = way.client.removesuffix(plan.WITH_MESH)
    server = made.application(kind, way.client != kind)
    return server if way.via == plan.DIRECT else made.in_front(server, envoy=way.via == plan.ENVOY)


def _command(part: Part, way: Way, made: Scene, port: int, xds: int = 0) -> list[str]:
    direct = way.via == plan.DIRECT
    secure = made.settings.tls and direct and way.client != plan.MESH.client
    spec = {
        "way": way.client,
        "world": part.world,
        "url": f"{'https' if secure else 'http'}://127.0.0.1:{port}",
        "target": f"127.0.0.1:{port}",
        "resources": str(made.one_endpoint if way.one_endpoint else made.resources),
        "certificates": str(made.certificates) if made.settings.tls and direct else None,
        "exact": part.exact,
        "xds": xds,
        "collector": made.collector_url if way.traced else None,
    }
    if way.client == plan.MESH.client:
        spec["url"] = f"http://{AUTHORITY}"
    return python(PROGRAMS.get(part.group, GENERATOR), json.dumps(spec))


def _round(running: Running, made: Scene, asked: Asked, taken: Taken) -> None:
    """A round. Raises NotMeasured: it failed, or a process of the way has ended."""
    backend = made.backend
    try:
        for each in running.others:
            each.check()
        cpu = [each.cpu() for each in running.others]
        server = backend.cpu() if backend is not None else 0.0
        waited, began = sum(each.waited() for each in (running.client, *running.others)), time.monotonic()
        found = running.client.ask(asdict(asked), asked.seconds + REPLY_SECONDS)
    except Died as error:
        raise NotMeasured(f"it is over: {error}") from None
    if "failed" in found:
        raise NotMeasured(found["failed"])
    calls = found["calls"]
    if not calls:
        raise NotMeasured(f"no call came back within {asked.seconds:g} s")
    spent = sum(each.cpu() - before for each, before in zip(running.others, cpu, strict=True))
    waited = sum(each.waited() for each in (running.client, *running.others)) - waited
    if running.counts_client:
        spent += found["cpu"]
        if GENERATORS_CPU in found:
            generator = found[GENERATORS_CPU]
            spent -= generator * calls
            taken.add(GENERATOR_CPU, generator * 1000)
    else:
        taken.add(GENERATOR_CPU, found["cpu"] / calls * 1000)
    if running.processes:
        taken.add(CPU, spent / calls * 1000)
        taken.add(MEMORY, sum(each.memory() for each in running.processes))
    if backend is not None:
        taken.add(SERVER_CPU, (backend.cpu() - server) / calls * 1000)
    taken.add(RATE, calls / found["wall"])
    for name in PERCENTILES:
        taken.add(name, found["ms"][name])
    taken.waited.append(waited / (time.monotonic() - began))
    if asked.rate:
        taken.add(LATE, found["late_ms"])
    for bucket, count in found["buckets"]:
        taken.buckets[bucket] = taken.buckets.get(bucket, 0) + count


_UNITS = {CPU: "s", SERVER_CPU: "s", GENERATOR_CPU: "s", RATE: "/s", MEMORY: "MB", LATE: "ms"} | dict.fromkeys(
    PERCENTILES, "ms"
)


def _row(part: Part, point: Point, running: Running, taken: Taken) -> Row:
    measures = {
        name: Measure(_UNITS[name], tuple(values), higher_is_better=name == RATE)
        for name, values in taken.values.items()
    }
    return Row(
        part.group, running.way.name, running.way.baseline, part.world, point.in_flight, point.body, part.settings.tls,
        part.settings.rules, load(point), measures,
        tuple((round(upper_ms(bucket), 5), count) for bucket, count in sorted(taken.buckets.items())),
        tuple(each.name for each in running.processes),
    )  # fmt: skip
