"""The annotation proxy.istio.io/config."""

from __future__ import annotations

from typing import Any

from meshlib.resources.loader import load_objects
from meshlib.resources.proxy_annotation import ANNOTATION, AnnotatedConfig, annotation_place, annotation_text


def loaded(kind: str, **rest: Any) -> Any:
    version = "apps/v1" if kind == "Deployment" else "v1"
    (found,) = load_objects([{"apiVersion": version, "kind": kind, **rest}]).resources
    return found


def test_of_a_deployment_it_is_in_the_template_of_its_pods():
    template = {"metadata": {"annotations": {ANNOTATION: "x"}}}
    found = loaded("Deployment", metadata={"name": "a"}, spec={"template": template})
    assert annotation_text(found) == "x"
    assert annotation_place(found) == ("spec", "template", "metadata", "annotations", ANNOTATION)
    assert annotation_text(loaded("Deployment", metadata={"name": "a", "annotations": {ANNOTATION: "x"}})) == ""


def test_of_a_pod_it_is_its_own():
    found = loaded("Pod", metadata={"name": "a", "annotations": {ANNOTATION: "y"}})
    assert (annotation_text(found), annotation_place(found)) == ("y", ("metadata", "annotations", ANNOTATION))
    assert annotation_text(loaded("Pod", metadata={"name": "a"})) == ""


def test_what_means_nothing_here_passes_and_is_not_shown():
    found = AnnotatedConfig.model_validate(
        {"concurrency": 2, "tracing": {"sampling": 1, "lightstep": {"accessToken": "k"}}}
    )
    assert found.tracing is not None
    assert found.tracing.sampling == 1
    assert "accessToken" not in repr(found)
