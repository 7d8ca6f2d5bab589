"""The samples of integrations/flask/README.md and the example run as they are written."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from meshlib.testing import as_caller

ROOT = Path(__file__).parents[2]
README = ROOT / "integrations" / "flask" / "README.md"
EXAMPLE = ROOT / "examples" / "flask-orders" / "orders.py"
WEB, STAFF = "cluster.local/ns/shop/sa/web", "cluster.local/ns/shop/sa/staff"


def test_the_readme_runs() -> None:
    samples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(samples) == 2
    names: dict[str, Any] = {"__name__": "readme"}
    for sample in samples:
        exec(compile(sample, str(README), "exec"), names)
    names["mesh"].close()


@pytest.fixture
def orders():
    spec = importlib.util.spec_from_file_location("orders", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.app
    module.app.extensions["meshlib"].close()


def test_the_example_lets_in_whom_its_policies_say(orders) -> None:
    def status(path: str, method: str = "GET", **caller: Any) -> int:
        return as_caller(orders, **caller).test_client().open(path, method=method).status_code

    assert status("/orders/7", principal=WEB) == 200
    assert status("/orders/7", "DELETE", principal=WEB) == 403
    assert status("/orders/7", "DELETE", principal=STAFF) == 204
    assert status("/orders/7") == 403
    for spelling in ("/orders/13", "/orders/013", "/orders/%31%33", "/orders/./13"):
        assert status(spelling, principal=STAFF) == 403, spelling
    again = as_caller(orders, principal=STAFF).test_client().get("/orders/013")
    assert again.json == {"error": "RBAC: access denied"}  # by the application's own handler
    assert [status("/orders/7", principal=WEB) for _ in range(5)] == [200] * 4 + [429]
