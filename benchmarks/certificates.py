"""``meshlib.bench.certificates``, under the name that benchmarks know."""

from meshlib.bench.certificates import CLIENT as CLIENT
from meshlib.bench.certificates import DNS as DNS
from meshlib.bench.certificates import SERVER as SERVER
from meshlib.bench.certificates import write_certificates as write_certificates
