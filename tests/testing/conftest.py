"""The fixtures of users' tests, for a checkout that was installed before it had them."""

from meshlib.testing.plugin import mesh_caller as mesh_caller
from meshlib.testing.plugin import mesh_mocks as mesh_mocks
