"""Who may come in: what AuthorizationPolicies say of a request (Istio's security.istio.io, Envoy's RBAC filter).

``rules.py`` has the settings, ``table.py`` finds the rules that match a request, ``decision.py`` puts DENY, ALLOW, AUDIT and
dry-run together, ``why.py`` says of each policy why or why not. The other modules each hold the values of one kind of field.
"""
