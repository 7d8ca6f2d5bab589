"""Bookinfo: Istio's sample application, written anew in Python, each service a process that calls the next through meshlib.

``services/`` is the application (read this to see how meshlib is used), ``config/`` the mesh's YAML, ``play/`` what starts
the processes, sends requests and judges what comes back, ``runner.py`` the entry point of ``meshlib demo bookinfo``.
"""

from __future__ import annotations

from pathlib import Path

CONFIG = Path(__file__).parent / "config"
"""The folder of our own YAML: ``application.yaml``, ``destination-rules.yaml`` and ``scenarios/``."""
