"""Channels of grpcio that obey the mesh."""
