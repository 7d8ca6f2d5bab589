"""Resources and registry in, immutable Snapshot out."""
