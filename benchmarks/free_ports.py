"""``meshlib.bench.free_ports``, under the name that benchmarks and tests know."""

from meshlib.bench.free_ports import free_port as free_port
