"""``meshlib.bench.envoy_config``, under the name that benchmarks know."""

from meshlib.bench.envoy_config import Scene as Scene
from meshlib.bench.envoy_config import bootstrap as bootstrap
from meshlib.bench.envoy_config import inbound as inbound
from meshlib.bench.envoy_config import outbound as outbound
from meshlib.bench.envoy_config import typed as typed
