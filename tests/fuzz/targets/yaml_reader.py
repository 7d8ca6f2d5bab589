"""Configuration of any bytes: documents and problems, resources and problems, a snapshot; never an exception."""

from __future__ import annotations

from meshlib.compiler.compile import compile_snapshot
from meshlib.resources.kinds import KINDS
from meshlib.resources.loader import load_text
from meshlib.resources.yaml_reader import read
from meshlib.workload import Workload
from tests.fuzz.raw_input import RawInput

PLAIN = (str, int, float, bool, type(None), list, dict)
HEADS = [(f"{kind.group}/{kind.versions[0]}".removeprefix("/"), name) for name, kind in KINDS.items()]


def run(data: bytes) -> None:
    raw = RawInput(data)
    kind = raw.byte()
    text = raw.rest()
    if kind & 1:  # the rest of a resource whose head is right
        api_version, name = HEADS[(kind >> 1) % len(HEADS)]
        head = f"apiVersion: {api_version}\nkind: {name}\nmetadata: {{name: istio, namespace: istio-system}}\n"
        if name == "ConfigMap" and kind & 128:  # the rest is the text inside it
            head, text = f"{head}data:\n  mesh: |\n    ", text.replace(b"\n", b"\n    ")
        text = head.encode() + text
    documents, problems = read(text, "f.yaml")
    for problem in problems:
        assert problem.code
        assert problem.message
        assert problem.line >= 0
    for document in documents:
        assert isinstance(document.value, PLAIN)
    loaded = load_text(text, "f.yaml")
    if not loaded.errors:
        compile_snapshot(loaded.resources, Workload())
