"""What only the Kubernetes API server refuses: lengths, patterns, bounds, oneofs and CEL rules of Istio's CRDs."""
