"""What the mesh tells about calls: Istio's metrics, and spans.

Rules of ``telemetry/``: it never decides anything and never fails a call; what it cannot do it counts or leaves out.
"""
