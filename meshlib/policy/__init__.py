"""One mechanism a file, pure."""
