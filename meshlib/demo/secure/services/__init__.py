"""The four services of Bookinfo, each a process that serves and calls by its own certificate."""
