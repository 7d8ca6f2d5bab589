"""Access logs: a line for each call, made and served, in Envoy's formats; written in the background.

``entry.py`` (``made.py``, ``served.py``) is what a line is about, ``operators.py`` reads it, ``text.py`` and ``json_lines.py``
put lines together; ``writer.py`` keeps them until a sink has written them.
"""
