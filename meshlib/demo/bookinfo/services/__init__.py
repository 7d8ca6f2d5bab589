"""The four services. Each module has ``create_app``; ``serve.py`` runs one of them as a process.

Apps take an ``httpx.AsyncClient`` and know nothing of the mesh: ``serve.py`` hands them ``mesh.async_client()``.
"""
