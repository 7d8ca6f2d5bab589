"""meshlib for Flask."""
