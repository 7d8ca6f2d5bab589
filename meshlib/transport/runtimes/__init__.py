"""How effects are performed: by threads and by event loops."""
