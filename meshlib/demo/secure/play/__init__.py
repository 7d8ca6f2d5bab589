"""Starts Bookinfo with identities, plays what must pass and what must not, and judges what it observes."""
