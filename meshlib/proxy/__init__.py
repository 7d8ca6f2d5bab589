"""The standalone proxy: listeners and downstream codecs around the same exchange (docs/architecture-proxy.md)."""
