"""The exchange: all the logic of a call and none of its I/O.

Rules of ``engine/``: an exchange is a generator that yields effects and is sent outcomes. It may read the injected clock
and random numbers, change the live state of clusters, and nothing else. A driver per runtime performs the effects.
"""
