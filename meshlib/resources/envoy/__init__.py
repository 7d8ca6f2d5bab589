"""Envoy's own messages, as far as an EnvoyFilter's patches must be read: which fields there are, and of what types."""
