"""Where resources come from: files, folders, globs, standard input, Python objects."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshlib.errors import ConfigError, Problem, Severity
from meshlib.resources.loader import LoadMemo, LoadResult, expand, load, load_objects, load_or_raise, load_text
from tests.support import resources as make

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}}}\n"


def service(name: str) -> str:
    return SERVICE.format(name)


def names(result: LoadResult) -> list[str]:
    return [resource.name for resource in result.resources]


def only(result: LoadResult) -> Problem:
    (problem,) = result.problems
    return problem


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_with_all_below_it_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/d.yaml", "sub/deeper/c.json"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        stem = file.stem
        file.write_text(
            service(stem) if file.suffix != ".json" else '{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"}}'
        )
    (tmp_path / "notes.txt").write_text("not: [yaml")
    assert names(load([tmp_path])) == ["a", "b", "d", "c"]
    assert load([tmp_path]).problems == []


def test_hidden_files_and_folders_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("broken: [")
    (tmp_path / ".swp.yaml").write_text("broken: [")
    (tmp_path / "a.yaml").write_text(service("a"))
    assert names(load([tmp_path])) == ["a"]


def test_a_config_maps_volume_gives_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01" / "a.yaml").write_text(service("a"))
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    result = load([tmp_path])
    assert names(result) == ["a"]
    assert result.problems == []


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    (tmp_path / "sub" / "a.yaml").write_text(service("a"))
    result = load([tmp_path])
    assert (names(result), result.problems) == (["a"], [])


def test_a_linked_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.yaml").write_text(service("a"))
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(load([tmp_path / "mesh"])) == ["a"]


def test_a_glob_names_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a1.yaml").write_text(service("a1"))
    (tmp_path / "a2.conf").write_text(service("a2"))
    (tmp_path / "a3").mkdir()
    (tmp_path / "a3" / "x.yaml").write_text(service("a3"))
    (tmp_path / "b.yaml").write_text(service("b"))
    assert names(load([str(tmp_path / "a*")])) == ["a1", "a2", "a3"]


def test_a_file_is_read_whatever_its_name_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "mesh.conf").write_text(service("a"))
    (tmp_path / "[x].yaml").write_text(service("b"))
    assert names(load([tmp_path / "mesh.conf", str(tmp_path / "[x].yaml")])) == ["a", "b"]


def test_a_file_that_several_paths_name_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    monkeypatch.chdir(tmp_path)
    result = load(["a.yaml", ".", "./a.yaml", "*.yaml", tmp_path])
    assert (names(result), result.problems) == (["a"], [])
    assert expand(["a.yaml", ".", "*.yaml"]) == ["a.yaml"]


def test_one_path_may_be_given_without_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    assert names(load(tmp_path)) == names(load(str(tmp_path))) == ["a"]


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a: [\n---\n" + service("a").encode())))
    result = load(["-", "-"])
    assert names(result) == ["a"]
    assert only(result).file == "<stdin>"
    assert result.resources[0].origin.file == "<stdin>"


@pytest.mark.parametrize(
    ("path", "says"),
    [("missing.yaml", "does not exist"), ("*.nothing", "no file matches"), ("empty", "holds no .yaml")],
)
def test_a_path_with_nothing_at_it_is_an_error_that_says_what_is_there(
    path: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    found = only(load([path]))
    assert (found.code, found.severity, found.file) == ("no-files", Severity.ERROR, path)
    assert says in found.message
    assert found.hint


def test_a_missing_file_does_not_keep_the_others_from_loading(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    result = load([tmp_path / "missing.yaml", tmp_path / "a.yaml"])
    assert names(result) == ["a"]
    assert only(result).code == "no-files"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "gone")
    found = only(load([tmp_path / "dangling.yaml"]))
    assert (found.code, found.file) == ("unreadable-file", str(tmp_path / "dangling.yaml"))
    assert "No such file" in found.message


def within(seconds: float, do: Callable[[], Any]) -> Any:
    """What ``do`` gives, when it ends in time."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(do()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "it hangs"
    return done[0]


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make_it", "what"), [(make_fifo, "a pipe"), (make_socket, "a socket"), (link_to_a_device, "a device")]
)
def test_what_is_no_file_is_refused_and_never_opened(
    make_it: Callable[[Path], None], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    make_it(Path("x.yaml"))
    (tmp_path / "a.yaml").write_text(service("a"))
    found = only(within(10, lambda: load(["x.yaml"])))
    assert (found.code, found.severity, found.file) == ("not-a-file", Severity.ERROR, "x.yaml")
    assert what in found.message
    assert found.hint
    assert names(within(10, lambda: load(["."]))) == ["a"]
    assert [p.code for p in within(10, lambda: load(["*.yaml"])).problems] == ["not-a-file"]


def test_a_pipe_that_is_named_itself_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    fifo = tmp_path / "x.yaml"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_text(service("a")), daemon=True)
    writer.start()
    assert names(within(10, lambda: load([fifo], pipes=True))) == ["a"]
    assert within(10, lambda: load([str(tmp_path / "*.yaml")], pipes=True)).problems[0].code == "not-a-file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_errors(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "a.yaml").chmod(0)
    try:
        found = load([tmp_path]).problems
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [p.code for p in found] == ["unreadable-file", "unreadable-file"]
    assert all("permissions" in p.hint for p in found)


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = only(load([tmp_path]))
    assert (found.code, found.file) == ("unreadable-file", str(tmp_path))
    assert "permissions" in found.hint


def test_every_problem_of_every_file_is_in_one_report_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("a: [\n---\nb: 1\nb: 2\nkind: Pod\n---\n" + service("ok"))
    (tmp_path / "a.yaml").write_text(service("x") + "spec: {ports: 5}\n---\nx: @\n")
    result = load([tmp_path])
    assert [(Path(p.file).name, p.line, p.code) for p in result.problems] == [
        ("a.yaml", 4, "list-expected"),
        ("a.yaml", 6, "bad-yaml"),
        ("b.yaml", 2, "bad-yaml"),
        ("b.yaml", 3, "not-a-resource"),
        ("b.yaml", 4, "duplicate-key"),
    ]
    assert names(result) == ["ok"]


def test_load_or_raise_raises_with_every_problem_and_otherwise_gives_resources(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    assert [r.name for r in load_or_raise([tmp_path])] == ["a"]
    (tmp_path / "b.yaml").write_text("a: [\n---\nb: [\n")
    with pytest.raises(ConfigError) as caught:
        load_or_raise([tmp_path])
    assert len(caught.value.problems) == 2
    assert str(caught.value).startswith("2 errors")


def test_load_or_raise_does_not_raise_for_warnings(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("just: values\n")
    assert load_or_raise([tmp_path]) == []


# -- origin ------------------------------------------------------------------------------------------------------------


def test_a_resource_knows_its_file_its_line_and_the_order_of_reading(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"# comment\n{service('a')}---\n\n{service('b')}")
    (tmp_path / "b.yaml").write_text(service("c"))
    a, b, c = load([tmp_path]).resources
    assert [(r.origin.line, r.origin.column, r.origin.document) for r in (a, b, c)] == [(2, 1, 1), (7, 1, 2), (1, 1, 3)]
    assert a.origin.file == str(tmp_path / "a.yaml")


# -- objects -----------------------------------------------------------------------------------------------------------


def virtual_service(name: str = "reviews", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}], **spec},
    }


def test_problems_of_objects_name_their_index_kind_and_name() -> None:
    result = load_objects([virtual_service("a"), virtual_service("b", gateways="mesh"), 5])  # type: ignore[list-item]
    first, second = result.problems
    assert (first.file, first.line, first.column) == ("<memory>", 0, 0)
    assert first.path == "[1] VirtualService/b: spec.gateways"
    assert (second.path, second.code) == ("[2]", "not-a-resource")
    assert names(result) == ["a"]


def test_objects_are_copied_so_that_later_changes_have_no_effect() -> None:
    value = virtual_service()
    value["status"] = {"x": [1]}
    (resource,) = load_objects([value]).resources
    value["status"]["x"].append(2)
    assert resource.status == {"x": [1]}  # type: ignore[attr-defined]


def test_any_mapping_and_tuples_will_do() -> None:
    value = types.MappingProxyType({**virtual_service(), "metadata": types.MappingProxyType({"name": "a"})})
    value = types.MappingProxyType({**value, "spec": {**value["spec"], "hosts": ("reviews",)}})
    result = load_objects([value])
    assert (names(result), result.problems) == (["a"], [])


def test_resources_pass_through() -> None:
    (resource,) = load_objects([virtual_service()]).resources
    assert load_objects([resource]).resources == [resource]


def test_an_object_inside_itself_is_an_error() -> None:
    value = virtual_service()
    value["spec"]["http"][0]["match"] = value
    assert only(load_objects([value])).code == "too-deep"


def test_keys_of_objects_must_be_texts() -> None:
    value = virtual_service()
    value["spec"][5] = 1
    value["metadata"]["labels"] = {1: "x"}
    result = load_objects([value])
    assert result.resources == []
    assert all(p.severity is Severity.ERROR for p in result.problems)
    assert len(result.problems) == 2


# -- kinds, lists, duplicates ------------------------------------------------------------------------------------------


def test_kinds_that_mean_nothing_here_are_skipped_with_one_notice_a_file() -> None:
    text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n"
    result = load_text(f"{text}---\n{text}---\n{service('s')}", "f.yaml")
    assert names(result) == ["s"]
    found = only(result)
    assert (found.code, found.severity, found.line) == ("unknown-kind", Severity.NOTICE, 2)


def test_unknown_kinds_can_be_errors() -> None:
    text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n"
    assert only(load_text(text, skip_unknown_kinds=False)).severity is Severity.ERROR


@pytest.mark.parametrize(
    ("version", "kind", "hint"),
    [
        ("networking.istio.io/v1", "VirtualServce", "VirtualService"),
        ("networking.istio.io/v1", "virtualservice", "VirtualService"),
        ("networkin.istio.io/v1", "VirtualService", "networking.istio.io/v1"),
        ("security.istio.io/v1", "AuthorisationPolicy", "AuthorizationPolicy"),
    ],
)
def test_a_kind_that_looks_misspelt_is_a_warning_with_the_right_name(version: str, kind: str, hint: str) -> None:
    found = only(load_text(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"))
    assert (found.code, found.severity) == ("unknown-kind", Severity.WARNING)
    assert hint in found.hint


def test_another_projects_kind_of_the_same_name_is_no_misspelling() -> None:
    found = only(load_text("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n"))
    assert (found.code, found.severity) == ("unknown-kind", Severity.NOTICE)


def test_an_unknown_version_of_a_known_kind_is_an_error_that_names_the_known_ones() -> None:
    found = only(load_text("kind: VirtualService\napiVersion: networking.istio.io/v2\nmetadata: {name: a}\n"))
    assert (found.code, found.severity, found.line) == ("unknown-version", Severity.ERROR, 2)
    assert "networking.istio.io/v1," in found.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("kind: VirtualService\nmetadata: {name: a}\n", "apiVersion: networking.istio.io/v1"),
        ("apiVersion: apps/v1\nmetadata: {name: a}\n", "Deployment"),
        ("apiVersion: 1\nkind: Service\n", "apiVersion: v1"),
        ("- apiVersion: v1\n", "---"),
        ("hello\n", "apiVersion"),
    ],
)
def test_what_is_half_a_resource_is_an_error_that_says_what_to_add(text: str, hint: str) -> None:
    found = only(load_text(text))
    assert (found.code, found.severity, found.line) == ("not-a-resource", Severity.ERROR, 1)
    assert hint in found.hint


def test_yaml_that_is_no_resource_at_all_is_a_warning_that_names_its_keys() -> None:
    found = only(load_text("global: 1\nspire-server: 2\n"))
    assert (found.code, found.severity) == ("not-a-resource", Severity.WARNING)
    assert "global, spire-server" in found.message


def test_lists_are_flattened_also_inside_lists() -> None:
    text = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a}
- apiVersion: v1
  kind: List
  items:
  - apiVersion: v1
    kind: Service
    metadata: {name: b}
    spec: {ports: 5}
"""
    result = load_text(text)
    assert names(result) == ["a"]
    assert result.resources[0].origin.line == 4
    found = only(result)
    assert (found.path, found.line) == ("items[1].items[0].spec.ports", 13)


def test_items_of_a_typed_list_need_no_kind() -> None:
    result = load_text("apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n")
    assert (names(result), result.problems) == (["a"], [])


def test_a_resource_without_a_name_is_an_error() -> None:
    found = only(load_text("apiVersion: v1\nkind: Service\nmetadata:\n  namespace: x\n"))
    assert (found.code, found.line, found.path) == ("missing-name", 3, "metadata")
    assert load_text("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\n").problems == []


def test_the_same_resource_twice_is_an_error_that_names_both_places_and_the_first_counts() -> None:
    text = f"{service('a')}---\n{service('a')}spec: {{clusterIP: 10.0.0.1}}\n"
    result = load_text(text, "f.yaml")
    found = only(result)
    assert (found.code, found.severity, found.line) == ("duplicate-resource", Severity.ERROR, 5)
    assert "f.yaml:1" in found.message
    assert [r.origin.line for r in result.resources] == [1]


def test_the_same_resource_with_the_same_content_is_only_a_notice() -> None:
    result = load_text(f"{service('a')}---\n{service('a')}")
    assert (names(result), only(result).severity) == (["a"], Severity.NOTICE)


def test_names_may_repeat_in_other_namespaces_and_kinds() -> None:
    other = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n"
    text = f"{service('a')}---\n{other}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n"
    assert load_text(text).problems == []


def test_no_namespace_is_the_namespace_default() -> None:
    text = service("a") + "---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: default}\n"
    assert only(load_text(text)).code == "duplicate-resource"


def test_files_that_have_not_changed_give_the_same_objects_again(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps(make.virtual_service(name, {"route": [make.to(name)]})))
    memo = LoadMemo()
    first = load(tmp_path, memo=memo).resources
    (tmp_path / "b.json").write_text(json.dumps(make.virtual_service("b", {"route": [make.to("other")]})))
    second = load(tmp_path, memo=memo)
    assert [a is b for a, b in zip(first, second.resources, strict=True)] == [True, False]
    (tmp_path / "a.json").unlink()
    assert [r.name for r in load(tmp_path, memo=memo).resources] == ["b"]
    assert len(memo.files) == len(memo.checked) == 1


def test_items_of_a_list_are_read_anew_and_never_mixed_up(tmp_path):
    items = [make.virtual_service(name, {"route": [make.to(name)]}) for name in ("a", "b", "c")]
    (tmp_path / "list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    memo = LoadMemo()
    for _ in range(3):
        found = load(tmp_path, memo=memo).resources
        assert [r.spec.http[0].route[0].destination.host for r in found] == ["a", "b", "c"]


def test_problems_of_files_that_have_not_changed_are_said_again(tmp_path):
    (tmp_path / "bad.yaml").write_text("kind: VirtualService\napiVersion: networking.istio.io/v1\nspec: {hosts: 1}\n")
    memo = LoadMemo()
    first, second = load(tmp_path, memo=memo), load(tmp_path, memo=memo)
    assert first.errors
    assert [str(p) for p in first.problems] == [str(p) for p in second.problems]
