"""The meshlib command."""
