"""Applications that show meshlib at work: ``meshlib demo bookinfo``."""
