"""Starts Bookinfo, plays scenarios over it by swapping YAML at run time, and judges what it observes."""
