"""A certificate authority on disk, for development and tests: what ``meshlib ca`` does. Whoever serves certificates from it
(``meshlib ca serve``) opens the same ``Store``."""
