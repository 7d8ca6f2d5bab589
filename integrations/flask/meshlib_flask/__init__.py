"""meshlib for Flask. Nothing is in it yet: AuthorizationPolicy in Flask services comes with the inbound side.

Until then a service makes its calls through ``mesh.client()``.
"""

from __future__ import annotations

from meshlib.distribution import require_ours

require_ours()
