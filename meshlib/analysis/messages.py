"""What ``meshlib analyze`` has to say: the findings, and what was wrong with files and single resources already."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from meshlib.analysis.codes import (
    DEPRECATED,
    GATEWAYS_CONFLICT,
    HOST_NOT_IN_GATEWAY,
    INVALID_CREDENTIAL,
    MESH_HOSTS_CONFLICT,
    NOT_FOUND,
    SCHEMA_ERROR,
    SCHEMA_WARNING,
)
from meshlib.analysis.finding import CLUSTER_SCOPED, Finding, full_name
from meshlib.analysis.mesh_config import MeshConfig
from meshlib.analysis.run import analyze
from meshlib.problems import Problem, Severity
from meshlib.resources.hints import dotted
from meshlib.resources.loader import LoadResult


@dataclass(frozen=True, slots=True)
class Message:
    """``origin`` is the resource it is about, as istioctl calls it (``VirtualService default/reviews``), "" for a file.
    ``unreadable``: the file, or a document of it, could not be read at all."""

    problem: Problem
    origin: str = ""
    unreadable: bool = False

    @property
    def namespace(self) -> str:
        """The namespace of the resource; "" for files and kinds without one."""
        kind, _, rest = self.origin.partition(" ")
        if kind == "Namespace":
            return rest
        return rest.partition("/")[0] if "/" in rest else ""


_ABOUT_RESOURCES = frozenset({"duplicate-resource", "missing-name"})
"""What a load says of resources that it could read."""


def messages(
    result: LoadResult, mesh_config: MeshConfig | None = None, gateways: Iterable[Problem] = ()
) -> list[Message]:
    """All about what was loaded (with ``keep_all`` and ``keep_positions``). ``gateways``: what the compiler says of them."""
    findings = analyze([*result.resources, *result.broken], result.others, mesh_config)
    return [
        *(_of_load(problem, result) for problem in told_of_files(result.problems, findings)),
        *(Message(problem) for problem in told_of_dumps(result)),
        *(Message(finding.problem(), full_name(finding.resource)) for finding in findings),
        *(Message(problem, _origin(problem)) for problem in told_of_gateways(gateways, findings)),
    ]


def told_of_files(problems: Iterable[Problem], findings: Sequence[Finding]) -> list[Problem]:
    """Problems of a load less the notices of old spellings that a finding tells too."""
    deprecated = {_place(finding.problem()) for finding in findings if finding.code is DEPRECATED}
    return [p for p in problems if p.code != "deprecated" or _place(p) not in deprecated]


def told_of_dumps(result: LoadResult) -> list[Problem]:
    """One notice about each list that a cluster has shown: what of it counts, and what else would help."""
    kinds = {resource.kind for resource in (*result.resources, *result.broken)}
    missing = [name for kind, name in _ASKED_ABOUT.items() if kind not in kinds]
    hint = (
        f"with {', '.join(missing)} in it (kubectl get {','.join(missing)} -A -o yaml) more can be judged"
        if missing
        else ""
    )
    return [
        Problem(
            "cluster-dump",
            Severity.NOTICE,
            file,
            *place,
            "",
            f"these are {count} resources as a cluster shows them: what it writes itself (status, managedFields, "
            "resourceVersion ...) is passed over",
            hint,
        )
        for file, (count, place) in result.dumps.items()
    ]


def _origin(problem: Problem) -> str:
    """``Gateway default/public`` of ``Gateway/default/public spec.servers[0]``."""
    kind, _, rest = problem.path.partition(" ")[0].partition("/")
    return f"{kind} {rest}".strip()


_ASKED_ABOUT = {"Service": "services", "Pod": "pods", "Namespace": "namespaces"}


def told_of_gateways(problems: Iterable[Problem], findings: Sequence[Finding]) -> list[Problem]:
    """What the gateways' compilation says (``compiler/gateway_problems.py``), less what a finding tells."""
    fields: set[str] = set()
    strangers: set[str] = set()
    for finding in findings:
        if finding.code in (GATEWAYS_CONFLICT, NOT_FOUND, INVALID_CREDENTIAL):
            fields.add(f"{finding.id} {dotted(finding.loc)}")
        elif finding.code is HOST_NOT_IN_GATEWAY:
            strangers.add(f"{finding.id} spec.hosts")
    return [
        problem
        for problem in problems
        if not (
            (problem.code in ("duplicate-host", "certificate-missing") and problem.path in fields)
            or (problem.code == "host-not-in-gateway" and problem.path in strangers)
        )
    ]


def _place(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column


def _of_load(problem: Problem, result: LoadResult) -> Message:
    """What Istio's validation says has its codes; what only meshlib says keeps its own."""
    resource = result.about.get(problem)
    if resource is None:
        unreadable = problem.severity is Severity.ERROR and problem.code not in _ABOUT_RESOURCES
        return Message(problem, unreadable=unreadable)
    kind, _, rest = resource.partition("/")
    origin = f"{kind} {rest.partition('/')[2] if kind in CLUSTER_SCOPED else rest}".strip()
    if problem.severity is Severity.NOTICE:
        return Message(problem, origin)
    code = SCHEMA_ERROR if problem.severity is Severity.ERROR else SCHEMA_WARNING
    said = replace(problem, code=code.id, name=code.name, message=f"{problem.message} ({problem.code})")
    return Message(said, origin)


@dataclass(frozen=True, slots=True)
class Suppression:
    """``code`` is not said of resources whose name ``pattern`` fits; ``*`` stands for any text, as for istioctl."""

    code: str
    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Suppression:
        """Of ``IST0101=VirtualService default/reviews``. Raises ValueError for another form."""
        code, equals, name = text.partition("=")
        if not equals or "=" in name:
            raise ValueError(f"{text!r} is not CODE=RESOURCE, for example 'IST0101=VirtualService default/reviews'")
        return cls(code, re.compile("(?s:" + ".*".join(re.escape(part) for part in name.split("*")) + ")"))

    def fits(self, message: Message) -> bool:
        """istioctl's examples write ``Kind name.namespace``, its messages ``Kind namespace/name``: both are taken."""
        if message.problem.code != self.code or not message.origin:
            return False
        return any(self.pattern.fullmatch(name) is not None for name in _names(message.origin))


def _names(origin: str) -> Iterator[str]:
    yield origin
    kind, _, rest = origin.partition(" ")
    namespace, slash, name = rest.partition("/")
    if slash:
        yield f"{kind} {name}.{namespace}"


def told_of_compilation(compiled: Iterable[Problem], findings: Sequence[Finding]) -> list[Problem]:
    """Problems of a compilation less those that a finding tells with its own place: destinations and delegates that do not
    exist, and hosts that several claim."""
    hosts: dict[str, list[str]] = {}
    fields: set[str] = set()
    for finding in findings:
        rule = dotted(finding.loc[:3])
        if finding.code is MESH_HOSTS_CONFLICT:
            fields.add(f"{finding.id} spec.hosts")
        elif finding.code is NOT_FOUND and finding.host:
            for where in (f"{finding.id} {rule}.route", f"({finding.id} {rule.removeprefix('spec.')})"):
                hosts.setdefault(where, []).append(finding.host)
        elif finding.code is NOT_FOUND and finding.loc[-2:] == ("delegate", "name"):
            fields.add(f"{finding.id} {rule}.delegate")
    return [
        problem
        for problem in compiled
        if not (
            (problem.code in ("host-claimed-twice", "delegate") and problem.path in fields)
            or (problem.code == "unknown-destination" and _told(problem, hosts))
        )
    ]


def _told(problem: Problem, hosts: Mapping[str, Sequence[str]]) -> bool:
    """``path`` names the root's rule, and the delegate's it was taken from:
    ``VirtualService/ns/root spec.http[0].route (VirtualService/ns/leaf http[1])``."""
    rule, _, delegate = problem.path.partition(" (")
    told = hosts.get(f"({delegate}" if delegate else rule, ())
    return any(host in problem.message.split() for host in told)
