"""What Istio's validation refuses, beyond types: one module a kind of resource, each a list of rules; shared ones beside.

A rule yields ``refused(code, place, message, hint)``. Rules run once the models have read a resource, so values have the right
types. They say what Istio's validators of the kind say (pkg/config/validation), no more and no less; what only the API server
refuses has a code that begins with ``crd-``.
"""
