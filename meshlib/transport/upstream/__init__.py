"""Connections to endpoints, of threads and of event loops: pools, TLS, names."""
