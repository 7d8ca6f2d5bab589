"""Servers of grpcio that obey the mesh."""
