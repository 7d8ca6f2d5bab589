"""Envoy as the engine of ``meshlib proxy``: the compiled mesh as Envoy's configuration, and an Envoy that is run by it."""
