"""What runs the pages notices when they are wrong."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import meshlib
from meshlib.errors import MeshClosed, MeshError
from tests.support import wsgi_served
from tests.support.page import Page, is_ours


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page(folder: Path, text: str) -> Page:
    file = folder / "page.md"
    file.write_text(text)
    return Page(file)


def test_code_that_raises_fails_with_the_line_of_the_page(folder: Path) -> None:
    with (
        page(folder, "# A page\n\n```python\nx = 1\nassert x == 2\n```\n") as wrong,
        pytest.raises(AssertionError) as raised,
    ):
        wrong.run()
    assert f"{folder / 'page.md'}:3" in raised.value.__notes__


def test_output_that_is_not_what_the_page_shows_fails(folder: Path) -> None:
    text = "```python\nprint('one', 2)\n```\n```text\none ... {}\n```\n"
    with page(folder, text.format("")) as right:
        right.run()
    with page(folder, text.format("3")) as wrong, pytest.raises(AssertionError, match="printed was"):
        wrong.run()


def test_a_resource_that_does_not_load_fails(folder: Path) -> None:
    with page(folder, "```yaml\napiVersion: networking.istio.io/v1\nkind: VirtualService\n```\n") as wrong:
        with pytest.raises(AssertionError, match="the field spec is missing"):
            wrong.run()


def test_tests_of_a_block_are_called(folder: Path) -> None:
    with page(folder, "```python\ndef test_it():\n    raise KeyError('called')\n```\n") as wrong:
        with pytest.raises(KeyError, match="called"):
            wrong.run()


def test_meshes_that_other_tests_left_are_closed_and_one_that_was_never_made_is_no_harm(folder: Path) -> None:
    left = meshlib.Mesh.from_yaml("")
    with pytest.raises(MeshError) as refused:  # it holds what was half made
        meshlib.Mesh.from_yaml("", https_rules="none")  # type: ignore[arg-type]
    with page(folder, "```python\nx = 1\n```\n") as right:
        right.run()
    with pytest.raises(MeshClosed):
        left.client(trust_env=False).get("http://reviews.test")
    assert refused.value
    # what a module has for a whole run stays
    with wsgi_served.mesh.client(transport=httpx.MockTransport(lambda _: httpx.Response(204))) as client:
        assert client.get("http://reviews.test").status_code == 204


def test_a_command_that_fails_is_told_with_what_it_printed(folder: Path) -> None:
    with page(folder, "```sh\nmeshlib validate nowhere --no-such-option\n```\n") as wrong:
        with pytest.raises(AssertionError, match="No such option"):
            wrong.run()


def test_what_is_left_out_is_left_out_for_a_reason(folder: Path) -> None:
    with page(folder, '<!-- skip: next "needs a cluster" -->\n```python\nraise KeyError\n```\n') as right:
        assert right.run() == ["needs a cluster"]


def test_blocks_without_a_language_are_found(folder: Path) -> None:
    assert page(folder, "```text\n```\n\n```\nfree\n```\n").blocks_without_a_language() == [4]


def test_installing_names_meshlib_and_extras_that_it_has() -> None:
    assert is_ours("sidecarless")
    assert is_ours("sidecarless[grpc,security]")
    assert not is_ours("sidecarless[grcp]")
    assert not is_ours("meshlib")
