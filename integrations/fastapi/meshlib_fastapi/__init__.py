"""meshlib for FastAPI: enforces the mesh's policies in a service and tells its handlers who the caller is.

::

    app = FastAPI()
    MeshExtension(app, mesh)

    @app.get("/orders", dependencies=[requires(principal="cluster.local/ns/shop/sa/web"), limit("10/second")])
    async def orders(caller: Caller, claims: Claims, client: MeshClient): ...
"""

from __future__ import annotations

from meshlib.distribution import require_ours

require_ours()

from meshlib.engine.principal import Principal  # noqa: E402 (asked first whose meshlib it is)
from meshlib_fastapi.dependencies import Caller, Claims, MeshClient  # noqa: E402
from meshlib_fastapi.extension import MeshExtension  # noqa: E402
from meshlib_fastapi.limits import limit  # noqa: E402
from meshlib_fastapi.requirements import requires  # noqa: E402

__all__ = ["Caller", "Claims", "MeshClient", "MeshExtension", "Principal", "limit", "requires"]
