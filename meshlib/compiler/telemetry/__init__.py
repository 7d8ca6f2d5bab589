"""From Telemetry resources, MeshConfig and ProxyConfig to what is told of a workload's calls
(``policy/telemetry_settings.py``), merged as istiod merges them.

| module | what |
|---|---|
| ``compile.py`` | which Telemetries count for a workload; all of it together |
| ``providers.py`` | the providers that metrics, spans and logs may name |
| ``metrics.py`` ``tracing.py`` (``custom_tags.py``) ``logs.py`` | one part each |
| ``expressions.py`` | which expressions in CEL act |
| ``proxies.py`` | defaults that are a proxy's: defaultConfig, ProxyConfig, annotations |
| ``reports.py`` ``formats.py`` | what is to be said of them |
"""
