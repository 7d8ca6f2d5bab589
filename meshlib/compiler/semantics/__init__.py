"""What every field of every networking resource does here: one table, kept beside the compiler.

``meshlib coverage``, the notices at load and docs/semantics.md all read it, so none of them can go stale.
"""
