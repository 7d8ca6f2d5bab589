"""Servers of ASGI applications that obey the mesh."""
