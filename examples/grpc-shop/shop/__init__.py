"""A small shop over gRPC: ``catalog.py`` (threads) and ``orders.py`` (asyncio), with the stubs of their .proto files."""
