"""The access log of ``MESHLIB_ACCESS_LOG`` as Envoy's (FileAccessLog, StdoutAccessLog), at each filter that serves connections.

Envoy writes values as they are, where meshlib's own engine writes ``***`` for secrets: so the named formats have no query in
them, and a format that names a header or a parameter of secrets is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from meshlib.compiler.access_log.format import (
    DEFAULT,
    EXPRESSIONS,
    ISTIO,
    ISTIO_LABELS,
    FormatError,
    operators_in,
    parse,
)
from meshlib.envoy.listeners import MANAGER
from meshlib.envoy.tcp import TCP
from meshlib.envoy.values import Json, typed
from meshlib.mesh.access_log import STREAMS, from_env
from meshlib.policy.secret_values import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlib.compiler.access_log.format import Operator

PATH, WITHOUT_QUERY = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "%PATH(NQ:ORIG_OR_PATH)%"
_NAMING = ("REQ", "REQ_WITHOUT_QUERY", "RESP", "TRAILER", "QUERY_PARAM")
"""Operators whose argument names headers, or a parameter of the query."""


def access_log(environ: Mapping[str, str]) -> Json | None:
    """The logger that the environment asks for, None for none. What of it Envoy cannot do is ``refused``."""
    to, form, _ = from_env(environ)
    if to is None:
        return None
    written = _format(form)
    if to in STREAMS:  # which may be a socket, as systemd's, that no path opens
        config = typed(f"access_loggers.stream.v3.{to.capitalize()}AccessLog", log_format=written)
        return {"name": f"envoy.access_loggers.{to}", "typed_config": config}
    config = typed("access_loggers.file.v3.FileAccessLog", path=os.path.abspath(to), log_format=written)
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def refused(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each part of it that Envoy does not do, or not safely."""
    to, form, rate = from_env(environ)
    if to is None:
        return []
    found = []
    if rate is not None:
        found.append("MESHLIB_ACCESS_LOG_RATE is not for --engine envoy: it writes a line of every request; unset it")
    if isinstance(form, str) and "%" in form:
        found += [f"MESHLIB_ACCESS_LOG_FORMAT is not for --engine envoy: {why}" for why in _unsafe(form)]
    return found


def logged(listeners: Mapping[str, Json], logger: Json | None) -> None:
    """Have all connections and requests of these listeners written down."""
    if logger is None:
        return
    for listener in listeners.values():
        chains = [*listener.get("filter_chains", ()), *filter(None, [listener.get("default_filter_chain")])]
        for each in _of_chains(chains):
            each["access_log"] = [logger]


def _of_chains(chains: Iterable[Json]) -> Iterable[Json]:
    for chain in chains:
        for each in chain.get("filters", ()):
            if each["name"] in (MANAGER, TCP):
                yield each["typed_config"]


def _format(form: Any) -> Json:
    if form is None or form == "text":
        return _text(ISTIO.replace(PATH, WITHOUT_QUERY))
    if form == "envoy":
        return _text(DEFAULT.replace(PATH, WITHOUT_QUERY))
    if form == "json":
        return {"json_format": {key: WITHOUT_QUERY if value == PATH else value for key, value in ISTIO_LABELS.items()}}
    return _text(str(form))


def _text(form: str) -> Json:
    return {"text_format_source": {"inline_string": form if form.endswith("\n") else f"{form}\n"}}


def _unsafe(form: str) -> list[str]:
    """Why a format of one's own cannot be handed on; what is wrong in itself is said when the mesh is made."""
    try:
        operators = operators_in(parse(form))
    except FormatError:
        return []
    return told_as_they_are(operators)


def told_as_they_are(operators: Iterable[Operator]) -> list[str]:
    """A sentence for each of a format's operators that Envoy would write a secret of, or nothing."""
    found = []
    for each in operators:
        names = (each.argument or "").lower().split("?") if each.name in _NAMING else []
        secret = next((name for name in names if is_secret(name)), None)
        if secret is not None:
            found.append(f"{each} would be written as it is, with its secret: leave {secret} out")
        if each.name in EXPRESSIONS:
            found.append(f"{each}: Envoy reads no expressions there without more of it; leave it out")
    return found
