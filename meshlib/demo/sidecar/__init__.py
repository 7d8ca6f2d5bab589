"""Bookinfo without a line of the mesh in its services: each has ``meshlib proxy`` beside it, for what it calls and for what it
serves. Visitors come in through an ingress gateway with TLS, and what is called outside leaves through an egress gateway. The
scenarios, and what a visitor must see, are those of ``meshlib demo bookinfo``."""
