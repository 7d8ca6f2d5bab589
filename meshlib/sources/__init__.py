"""Where resources come from."""
