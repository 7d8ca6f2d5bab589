"""What a reload may take away: the rule by itself, on a clock that is moved by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshlib.errors import Severity
from meshlib.sources.removals import QUIET_SECONDS, FileLook, Look, Removals, Verdict


@dataclass(frozen=True)
class Thing:
    """What a resource is to the rule."""

    name: str
    file: str
    version: int = 0

    @property
    def id(self) -> str:
        return f"VirtualService/default/{self.name}"

    @property
    def origin(self) -> SimpleNamespace:
        return SimpleNamespace(file=self.file)


@dataclass(frozen=True)
class File:
    """A file as it stands on a disk that exists only here."""

    holds: tuple[str, ...] = ()
    stamp: int = 0
    inode: int = 1
    size: int | None = None
    unreadable: str = ""
    broken: bool = False
    says_empty: bool = False
    refused: tuple[str, ...] = ()
    torn: str = ""


class Disk:
    """One folder, ``mesh``, of such files, and what is served of it."""

    def __init__(self, **files: File) -> None:
        self.files = {f"mesh/{name}": file for name, file in files.items()}
        self.unlisted: dict[str, str] = {}
        self.there: frozenset[str] = frozenset()
        self.now = 100.0
        self.removals: Removals[Thing] = Removals()
        self.serves = self._loaded()
        self.removals.saw(self._look(), self.now)

    def write(self, name: str, **changes: object) -> None:
        path = f"mesh/{name}"
        before = self.files.get(path, File())
        self.files[path] = replace(before, **{"stamp": before.stamp + 1, **changes})

    def remove(self, name: str) -> None:
        del self.files[f"mesh/{name}"]

    def reload(self, **how: bool) -> Verdict[Thing]:
        verdict = self.removals.judge(self.serves, self._look(), self.now, **how)
        self.serves = verdict.serve
        return verdict

    def names(self) -> list[str]:
        return sorted(thing.name for thing in self.serves)

    def _loaded(self) -> list[Thing]:
        return [
            Thing(name, path, file.stamp)
            for path, file in sorted(self.files.items())
            if not file.unreadable
            for name in file.holds
        ]

    def _look(self) -> Look[Thing]:
        found = {
            path: FileLook(
                signature=None if f.unreadable else (f.stamp, f.inode),
                size=len(f.holds) if f.size is None else f.size,
                inode=f.inode,
                unreadable=f.unreadable,
                broken=f.broken,
                says_empty=f.says_empty,
                refused={f"VirtualService/default/{name}" for name in f.refused},
                torn=[f.torn] if f.torn else [],
            )
            for path, f in self.files.items()
        }
        return Look(self._loaded(), found, {"mesh": sorted(found)}, self.there, self.unlisted)


def errors(verdict: Verdict[Thing]) -> list[str]:
    return [p.code for p in verdict.problems if p.severity is Severity.ERROR]


def said(verdict: Verdict[Thing], code: str) -> str:
    return " ".join(p.message for p in verdict.problems if p.code == code)


def test_a_document_that_is_gone_from_its_file_goes_when_the_file_has_been_quiet_and_is_named() -> None:
    disk = Disk(x=File(("a", "b")))
    disk.write("x", holds=("a",))
    verdict = disk.reload()
    assert (disk.names(), errors(verdict)) == (["a", "b"], [])
    assert verdict.look_again == disk.now + QUIET_SECONDS
    disk.now += QUIET_SECONDS - 0.1
    disk.reload()
    assert disk.names() == ["a", "b"]
    disk.now += 0.1
    verdict = disk.reload()
    assert (disk.names(), verdict.look_again) == (["a"], None)
    assert "VirtualService/default/b" in said(verdict, "resources-removed")


def test_each_change_of_the_file_begins_the_wait_anew() -> None:
    disk = Disk(x=File(("a", "b")))
    for _ in range(5):
        disk.write("x", holds=("a",))
        disk.reload()
        assert disk.names() == ["a", "b"]
        disk.now += 1.5


def test_a_document_that_comes_back_in_time_was_never_away() -> None:
    disk = Disk(x=File(("a", "b")))
    disk.write("x", holds=("a",))
    disk.reload()
    disk.write("x", holds=("a", "b"))
    disk.now += 10
    verdict = disk.reload()
    assert (disk.names(), verdict.problems, verdict.kept) == (["a", "b"], [], [])


@pytest.mark.parametrize(
    "change",
    [
        {"holds": ()},
        {"unreadable": "Permission denied"},
    ],
    ids=["emptied", "unreadable"],
)
def test_a_file_that_yields_nothing_is_an_error_and_its_resources_stay_until_a_person_confirms(change: dict) -> None:
    disk = Disk(x=File(("a", "b")), y=File(("c",)))
    disk.write("x", **change)
    for _ in range(3):
        verdict = disk.reload()
        disk.now += 60
        assert (disk.names(), errors(verdict)) == (["a", "b", "c"], ["source-empty"])
        assert verdict.problems[0].file == "mesh/x"
        assert "accept_removals=True" in verdict.problems[0].hint
    disk.reload(by_hand=True)
    assert disk.names() == ["a", "b", "c"]
    verdict = disk.reload(by_hand=True, accept=True)
    assert (disk.names(), errors(verdict)) == (["c"], [])
    assert said(verdict, "resources-removed").count("VirtualService/default/") == 2


def test_a_file_that_says_it_is_empty_is_believed_at_once() -> None:
    disk = Disk(x=File(("a",)))
    disk.write("x", holds=(), says_empty=True)
    verdict = disk.reload()
    assert (disk.names(), errors(verdict)) == ([], [])
    assert "VirtualService/default/a" in said(verdict, "resources-removed")


def test_one_file_of_several_that_is_gone_goes_after_the_same_wait() -> None:
    disk = Disk(x=File(("a",)), y=File(("b",)))
    disk.remove("x")
    assert errors(disk.reload()) == []
    assert disk.names() == ["a", "b"]
    disk.now += QUIET_SECONDS
    verdict = disk.reload()
    assert disk.names() == ["b"]
    assert "VirtualService/default/a" in said(verdict, "resources-removed")


def test_by_hand_a_file_that_is_gone_has_gone_and_one_with_fewer_documents_waits() -> None:
    disk = Disk(x=File(("a",)), y=File(("b", "c")))
    disk.remove("x")
    disk.write("y", holds=("b",))
    disk.reload(by_hand=True)
    assert disk.names() == ["b", "c"]


def test_the_last_file_of_a_folder_that_is_gone_is_held_and_the_folder_named() -> None:
    disk = Disk(x=File(("a",)), y=File(("b",)))
    disk.remove("x")
    disk.remove("y")
    disk.now += 60
    verdict = disk.reload(by_hand=True)
    assert (disk.names(), errors(verdict), verdict.places) == (["a", "b"], ["source-empty"], {"mesh"})
    disk.write("none", says_empty=True)
    disk.reload()
    assert disk.names() == []


def test_a_folder_that_cannot_be_listed_keeps_all_below_it() -> None:
    disk = Disk(x=File(("a",)), y=File(("b",)))
    disk.remove("x")
    disk.unlisted = {"mesh": "Permission denied"}
    disk.now += 60
    verdict = disk.reload(by_hand=True)
    assert (disk.names(), errors(verdict)) == (["a", "b"], ["source-empty"])
    assert "Permission denied" in said(verdict, "source-empty")


def test_a_file_that_has_become_something_else_is_held() -> None:
    disk = Disk(x=File(("a",)), y=File(("b",)))
    disk.remove("x")
    disk.there = frozenset(("mesh/x",))
    disk.now += 60
    assert errors(disk.reload(by_hand=True)) == ["source-empty"]
    assert disk.names() == ["a", "b"]


def test_a_resource_that_moved_to_another_file_is_not_gone() -> None:
    disk = Disk(x=File(("a", "b")), y=File(("c",)))
    disk.write("x", holds=("a",))
    disk.write("y", holds=("b", "c"))
    verdict = disk.reload()
    assert (disk.names(), verdict.problems, verdict.kept) == (["a", "b", "c"], [], [])


def test_a_resource_that_moved_and_broke_keeps_its_last_good_version() -> None:
    disk = Disk(x=File(("a", "b")), y=File(("c",)))
    disk.write("x", holds=("a",))
    disk.write("y", broken=True, refused=("b",))
    disk.now += 60
    disk.reload(by_hand=True)
    assert disk.names() == ["a", "b", "c"]


def test_a_resource_that_a_torn_document_names_may_be_in_it() -> None:
    disk = Disk(x=File(("a1", "b1")), y=File(("c1",)))
    disk.remove("x")
    disk.write("y", broken=True, torn="metadata: {name: b1}\nspec: [")
    disk.now += 60
    disk.reload()
    disk.now += 60
    disk.reload()
    assert disk.names() == ["b1", "c1"]


def test_what_came_by_another_way_than_the_files_is_replaced_by_them() -> None:
    disk = Disk(x=File(("a",)))
    disk.serves = [Thing("applied", "<memory>")]
    assert disk.reload().kept == []
    assert disk.names() == ["a"]


def test_a_file_made_smaller_in_place_is_served_as_it_was_until_it_is_quiet() -> None:
    disk = Disk(x=File(("a",), size=100))
    disk.write("x", size=40)
    verdict = disk.reload()
    assert (disk.serves[0].version, verdict.look_again) == (0, disk.now + QUIET_SECONDS)
    disk.now += QUIET_SECONDS
    disk.reload()
    assert disk.serves[0].version == 1


def test_a_file_replaced_by_a_smaller_one_acts_at_once() -> None:
    disk = Disk(x=File(("a",), size=100))
    disk.write("x", size=40, inode=2)
    disk.reload()
    assert disk.serves[0].version == 1


class Folder(RuleBasedStateMachine):
    """Whatever happens to the files: nothing goes unsaid, nothing goes before its time, and what is there is served."""

    NAMES = ("x", "y", "z")
    THINGS = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4).map(tuple)

    @initialize(first=THINGS)
    def begin(self, first: tuple[str, ...]) -> None:
        self.disk = Disk(x=File(first, inode=1), y=File(("e",), inode=2))
        self.changed = self.disk.now
        self.verdict: Verdict[Thing] | None = None

    def _touch(self) -> None:
        self.changed = self.disk.now

    @rule(name=st.sampled_from(NAMES), holds=THINGS, broken=st.booleans())
    def write(self, name: str, holds: tuple[str, ...], broken: bool) -> None:
        elsewhere = {t for path, f in self.disk.files.items() if path != f"mesh/{name}" for t in f.holds}
        self.disk.write(name, holds=tuple(t for t in holds if t not in elsewhere), broken=broken, unreadable="", size=9)
        self._touch()

    @rule(name=st.sampled_from(NAMES))
    def take_away(self, name: str) -> None:
        if self.disk.files.pop(f"mesh/{name}", None) is not None:
            self._touch()

    @rule(name=st.sampled_from(NAMES))
    def lock(self, name: str) -> None:
        if f"mesh/{name}" in self.disk.files:
            self.disk.write(name, unreadable="Permission denied")
            self._touch()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.disk.now += seconds

    @rule(by_hand=st.booleans(), accept=st.booleans())
    def reload(self, by_hand: bool, accept: bool) -> None:
        before = {t.id: t for t in self.disk.serves}
        there = {t.id for t in self.disk._loaded()}
        self.verdict = self.disk.reload(by_hand=by_hand, accept=accept and by_hand)
        after = {t.id: t for t in self.disk.serves}
        assert len(after) == len(self.disk.serves), "nothing is served twice"
        assert there <= set(after), "what is there is served"
        gone = set(before) - set(after)
        assert all(name in said(self.verdict, "resources-removed") for name in gone), "what goes is named"
        if gone and not by_hand:
            assert self.disk.now - self.changed >= QUIET_SECONDS or self._file_quiet(before, gone)
        if gone and not (accept and by_hand):
            assert there, "the last of a source goes only by a person's word"
            for name in gone:
                file = self.disk.files.get(before[name].file)
                assert file is None or (file.holds and not file.unreadable and not file.broken)
        waits = said(self.verdict, "removal-waits")
        assert bool(waits) == (self.verdict.look_again is not None)

    def _file_quiet(self, before: dict[str, Thing], gone: set[str]) -> bool:
        """The file itself may have been quiet while another one changed; a file that is gone waits for its folder."""
        return all(before[name].file in self.disk.files for name in gone)

    @invariant()
    def kept_is_what_is_served_without_being_there(self) -> None:
        if getattr(self, "verdict", None) is not None:
            assert {t.id for t in self.verdict.kept} <= {t.id for t in self.verdict.serve}


TestFolder = Folder.TestCase
TestFolder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
