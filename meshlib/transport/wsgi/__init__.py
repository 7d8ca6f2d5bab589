"""Servers of WSGI applications that obey the mesh."""
