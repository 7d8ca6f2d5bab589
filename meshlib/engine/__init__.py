"""The exchange, its effects, and the drivers' shared parts."""
