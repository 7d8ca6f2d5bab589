"""meshlib for FastAPI."""
