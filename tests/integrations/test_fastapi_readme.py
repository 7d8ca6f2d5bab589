"""The samples of integrations/fastapi/README.md and examples/fastapi do what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from meshlib.testing import as_caller

ROOT = Path(__file__).parents[2]
README = ROOT / "integrations" / "fastapi" / "README.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_samples_of_the_readme_run_and_what_they_assert_holds(tmp_path, monkeypatch):
    [yaml] = blocks("yaml")
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "orders.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    samples = blocks("python")
    assert len(samples) == 2
    for sample in samples:
        exec(compile(sample, README.name, "exec"), names)
    names["mesh"].close()


@pytest.fixture
def example():
    found = runpy.run_path(str(ROOT / "examples" / "fastapi" / "orders.py"))
    yield found
    found["mesh"].close()


@pytest.mark.parametrize(
    ("path", "status"), [("/about", 200), ("/orders", 403), ("/orders%2F7", 403), ("/healthz", 200), ("/docs", 200)]
)
def test_the_example_gives_a_stranger_what_its_readme_says(example, path, status):
    assert TestClient(example["app"]).get(path).status_code == status


def test_the_example_gives_callers_of_the_shop_what_is_theirs(example):
    web = TestClient(as_caller(example["app"], principal="cluster.local/ns/shop/sa/web"))
    assert web.get("/orders").json() == [0, 7, 8]
    assert web.get("/orders/7").json() == {"order": "seven apples"}
    assert [web.get(f"/orders/{spelled}").status_code for spelled in ("0", "00", "%30")] == [403, 403, 403]
    assert web.delete("/orders/7").status_code == 403
    admin = TestClient(as_caller(example["app"], principal="cluster.local/ns/shop/sa/admin"))
    assert admin.delete("/orders/7").json() == {"deleted": 7}
    other = TestClient(as_caller(example["app"], principal="cluster.local/ns/other/sa/web"))
    assert other.get("/orders").status_code == 403
