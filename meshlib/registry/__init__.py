"""Services and endpoints out of resources."""
