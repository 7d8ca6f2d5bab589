"""meshlib for Flask: enforces the mesh's policies in a service and tells its views who the caller is.

::

    app = Flask(__name__)
    Mesh(app, mesh)

    @app.get("/orders")
    @requires(principal="cluster.local/ns/shop/sa/web")
    @limit("10/second")
    def orders(): return f"hello, {current_caller}"
"""

from __future__ import annotations

from meshlib.distribution import require_ours

require_ours()

from meshlib_flask.current import current_caller, current_claims  # noqa: E402 (asked first whose meshlib it is)
from meshlib_flask.extension import Mesh  # noqa: E402
from meshlib_flask.rules import limit, requires  # noqa: E402

__all__ = ["Mesh", "current_caller", "current_claims", "limit", "requires"]
