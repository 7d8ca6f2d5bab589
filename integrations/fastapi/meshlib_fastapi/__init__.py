"""meshlib for FastAPI. Nothing is in it yet: AuthorizationPolicy in FastAPI services comes with the inbound side.

Until then a service makes its calls through ``mesh.async_client()``, as examples/bookinfo does.
"""

from __future__ import annotations

from meshlib.distribution import require_ours

require_ours()
