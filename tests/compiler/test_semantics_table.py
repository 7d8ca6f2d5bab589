"""The table of what every field does: complete, true about its tests, and the same in the docs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from meshlib.compiler.semantics.__main__ import page
from meshlib.compiler.semantics.fields import fields, inert_fields
from meshlib.compiler.semantics.table import HONOURED, STATUSES, Row, Table
from meshlib.compiler.semantics.tables import EXTENSIONS, SAME_AS, TABLES
from meshlib.resources.kinds import KINDS, all_models
from meshlib.resources.loader import load_objects
from tests.support.resources import destination_rule, virtual_service

ROOT = Path(__file__).parents[2]
ROWS = [(kind, row) for kind, table in TABLES.items() for row in table.rows]


def inner(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation, through lists and None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is dict:
        return None
    return next((found for arg in get_args(annotation) if (found := inner(arg)) is not None), None)


def paths(model: type[BaseModel], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a leaf) of every field."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        below = inner(info.annotation)
        yield path, below is None
        if below is not None and depth < 12:
            yield from paths(below, f"{path}.", depth + 1)


def spec_paths(kind: str) -> dict[str, bool]:
    return dict(paths(inner(all_models()[kind].model_fields["spec"].annotation)))


@pytest.mark.parametrize("kind", TABLES)
def test_every_field_has_a_row(kind):
    table = TABLES[kind]
    missing = [path for path, leaf in spec_paths(kind).items() if leaf and table.row(path) is None]
    assert missing == []


@pytest.mark.parametrize("kind", TABLES)
def test_every_row_is_about_a_field_that_exists_and_about_it_alone(kind):
    known = spec_paths(kind)
    rows = TABLES[kind].rows
    assert [row.path for row in rows if row.path not in known] == []
    keys = [(row.path, row.value) for row in rows]
    assert sorted(k for k in set(keys) if keys.count(k) > 1) == []


def test_every_kind_of_istio_is_accounted_for():
    kubernetes = {kind for kind, known in KINDS.items() if known.module in ("kubernetes", "ingress")}
    assert {*TABLES, *SAME_AS, *EXTENSIONS, *kubernetes} == set(KINDS)


def words(path: str) -> set[str]:
    """Spellings of a row's field, or of an object around it, that a test may use."""
    found = set()
    for name in path.split(".")[-2:]:
        snake = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
        found |= {name, snake}
    return found


@functools.cache
def text_of(file: str) -> str:
    return (ROOT / file).read_text()


def test_a_row_is_whole_and_its_test_is_about_it():
    for kind, row in ROWS:
        where = f"{kind}.{row.path}"
        assert row.status in STATUSES, where
        if row.status == HONOURED:
            assert row.tested, f"{where}: an honoured field names the test that shows it"
            assert not row.reason, where
        else:
            assert row.reason, f"{where}: a field that is not honoured says why"
        if row.tested:
            assert (ROOT / row.tested).is_file(), f"{where}: {row.tested}"
            assert any(word in text_of(row.tested) for word in words(row.path)), f"{row.tested} never mentions {where}"


def test_the_page_is_what_the_table_makes():
    assert (ROOT / "docs/semantics.md").read_text() == page(), "run make docs"


def test_a_row_may_be_about_one_value():
    table = Table("X", [Row("a.b", HONOURED, "x"), Row("a.b", "ignored", "", "", "", "why", "SPECIAL")])
    assert table.row("a.b", "SPECIAL").reason == "why"
    assert table.row("a.b", "other").status == HONOURED
    assert table.row("a.b.c").status == HONOURED
    assert table.row("x") is None


def test_fields_that_are_set_are_found_with_their_place():
    rule = {
        "match": [{"uri": {"prefix": "/"}, "statPrefix": "s"}],
        "route": [{"destination": {"host": "a"}, "weight": 1}],
    }
    (resource,) = load_objects([virtual_service("reviews", rule)]).resources
    found = {field.path: field for field in fields(resource)}
    assert set(found) == {
        "hosts",
        "http.match.uri",
        "http.match.statPrefix",
        "http.route.destination.host",
        "http.route.weight",
    }
    assert found["http.match.statPrefix"].loc == ("spec", "http", 0, "match", 0, "statPrefix")


def test_a_notice_groups_fields_by_their_reason():
    policy = {"proxyProtocol": {"version": "V1"}, "retryBudget": {"budgetInterval": "1s", "percent": 3}}
    result = load_objects([destination_rule("reviews", **policy)])
    (notice,) = inert_fields(result.resources)
    assert (
        "trafficPolicy.proxyProtocol (a header of connections that a proxy forwards; `meshlib proxy` sends it)"
        in notice.message
    )
    assert "retryBudget.budgetInterval" in notice.message
    assert "percent" not in notice.message
