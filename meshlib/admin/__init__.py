"""The local admin endpoint: what a running process tells an operator, and how the command asks for it.

Rules of ``admin/``: it only reads; whoever asks, or is slow, or goes away, costs calls nothing but the CPU time of a page.
"""
