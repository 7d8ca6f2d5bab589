"""The figures of meshlib: ``python -m benchmarks``. Ratios measured in one run; never a timed test."""
