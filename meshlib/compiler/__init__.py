"""Resources and registry in, an immutable ``Snapshot`` out: one pure step.

Rules of ``compiler/``: no I/O, no clock, no mutable state of calls. What can be decided from the configuration and the
client's own workload (sourceLabels, namespaces, exportTo, gateways) is decided here, so that the data path never
looks at it again. Pydantic models come in; only ``__slots__`` objects and closures go out.
"""
