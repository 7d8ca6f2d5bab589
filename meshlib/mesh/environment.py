"""The options of a mesh that the environment gives."""

from __future__ import annotations

import os
from collections.abc import Mapping

from meshlib.mesh import access_log
from meshlib.mesh.admin import admin_from_env
from meshlib.mesh.metric_export import metric_exporter_from_env
from meshlib.mesh.options import MeshOptions
from meshlib.problems import MeshError
from meshlib.sources.environment import endpoints_from_env, https_rules_from_env, identity_from_env, workload_from_env


def filled_in(options: MeshOptions, environ: Mapping[str, str]) -> list[str]:
    """Give ``options`` what they do not say; the paths of MESHLIB_CONFIG. Raises as ``Mesh.from_env``."""
    config = environ.get("MESHLIB_CONFIG", "")
    if not config:
        raise MeshError(
            "MESHLIB_CONFIG is not set; set it to the file or folder that holds the mesh's YAML, "
            "or use Mesh.from_path(...)"
        )
    options["workload"] = workload = options.get("workload") or workload_from_env(environ)
    if options.get("endpoints") is None:
        options["endpoints"] = endpoints_from_env(environ, workload.namespace)
    options["https_rules"] = options.get("https_rules") or https_rules_from_env(environ)
    options["identity"] = options.get("identity") or identity_from_env(environ)
    options["admin"] = options.get("admin") or admin_from_env(environ)
    if options.get("envoy_metrics") is None:
        options["envoy_metrics"] = environ.get("MESHLIB_ENVOY_METRICS") == "1"
    options["metric_exporter"] = options.get("metric_exporter") or metric_exporter_from_env(environ)
    to, form, rate = access_log.from_env(environ)
    if options.get("access_log") is None:
        options["access_log"] = to
        options["access_log_format"] = options.get("access_log_format") or form
    options["access_log_rate"] = options.get("access_log_rate") or rate
    return config.split(os.pathsep)
