"""Bytes to messages and back: HTTP/1.1, HTTP/2, where a body ends. No socket, no clock, no waiting."""
