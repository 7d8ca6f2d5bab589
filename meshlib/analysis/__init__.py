"""Whether the resources of a mesh fit together: the messages of ``istioctl analyze``.

Each family of messages has a file; an analyzer is a pure function from the ``Index`` to findings. Nothing is compiled, and
resources with errors take part as far as they can be read, so that a slip in one does not make others look wrong.
"""

from meshlib.analysis.run import ANALYZERS, Analyzer, analyze

__all__ = ["ANALYZERS", "Analyzer", "analyze"]
