"""Certificates, keys and tokens: pure functions, like ``policy/``, over the library ``cryptography`` (extra ``security``),
which is imported where it is needed and not before."""
