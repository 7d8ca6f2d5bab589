"""PeerAuthentication, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured

COMPILED = "tests/compiler/test_peer_authentication.py"

ROWS: tuple[Row, ...] = (
    approximated(
        "selector.matchLabels",
        "workloads of its namespace; the oldest that selects one counts",
        COMPILED,
        "in the root namespace, where Istio leaves it out, it counts where it says STRICT",
        "all of the namespace; of the mesh in the root namespace",
    ),
    honoured(
        "mtls.mode",
        "STRICT, PERMISSIVE, DISABLE; UNSET is what the next wider policy says",
        COMPILED,
        "PERMISSIVE",
    ),
    honoured(
        "portLevelMtls",
        "of the workload's own ports, in a policy with a selector; UNSET is what mtls says",
        COMPILED,
    ),
)
