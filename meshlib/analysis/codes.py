"""The messages of ``istioctl analyze`` that meshlib gives: Istio's code, name and level of each."""

from __future__ import annotations

from typing import NamedTuple

from meshlib.problems import Severity


class Code(NamedTuple):
    """One kind of message. ``severity`` is Istio's level: its Info is a notice here."""

    id: str
    name: str
    severity: Severity


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.NOTICE

DEPRECATED = Code("IST0002", "Deprecated", _W)
NOT_FOUND = Code("IST0101", "ReferencedResourceNotFound", _E)
SCHEMA_ERROR = Code("IST0106", "SchemaValidationError", _E)
MESH_HOSTS_CONFLICT = Code("IST0109", "ConflictingMeshGatewayVirtualServiceHosts", _E)
SIDECAR_SELECTORS_CONFLICT = Code("IST0110", "ConflictingSidecarWorkloadSelectors", _E)
SIDECARS_WITHOUT_SELECTOR = Code("IST0111", "MultipleSidecarsWithoutWorkloadSelectors", _E)
PORT_REQUIRED = Code("IST0112", "VirtualServiceDestinationPortSelectorRequired", _E)
DEPLOYMENT_PROTOCOLS = Code("IST0116", "DeploymentAssociatedToMultipleServices", _W)
PORT_NAME = Code("IST0118", "PortNameIsNotUnderNamingConvention", _I)
NO_WORKLOADS = Code("IST0127", "NoMatchingWorkloadsFound", _W)
NO_VERIFICATION = Code("IST0128", "NoServerCertificateVerificationDestinationLevel", _W)
NO_PORT_VERIFICATION = Code("IST0129", "NoServerCertificateVerificationPortLevel", _W)
UNREACHABLE_RULE = Code("IST0130", "VirtualServiceUnreachableRule", _W)
INEFFECTIVE_MATCH = Code("IST0131", "VirtualServiceIneffectiveMatch", _I)
HOST_NOT_IN_GATEWAY = Code("IST0132", "VirtualServiceHostNotFoundInGateway", _W)
SCHEMA_WARNING = Code("IST0133", "SchemaWarning", _W)
ADDRESSES_REQUIRED = Code("IST0134", "ServiceEntryAddressesRequired", _W)
DEPLOYMENT_PORTS = Code("IST0137", "DeploymentConflictingPorts", _W)
DUPLICATE_CERTIFICATE = Code("IST0138", "GatewayDuplicateCertificate", _W)
INGRESS_RULES_UNAFFECTED = Code("IST0140", "IngressRouteRulesNotAffected", _W)
GATEWAYS_CONFLICT = Code("IST0145", "ConflictingGateways", _E)
CLAIMS_WITHOUT_AUTHENTICATION = Code("IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", _E)
EXTERNAL_NAME_PORT = Code("IST0150", "ExternalNameServiceTypeInvalidPortName", _W)
RELATIVE_OPERATION = Code("IST0151", "EnvoyFilterUsesRelativeOperation", _W)
WRONG_REPLACE = Code("IST0152", "EnvoyFilterUsesReplaceOperationIncorrectly", _E)
WRONG_ADD = Code("IST0153", "EnvoyFilterUsesAddOperationIncorrectly", _E)
WRONG_REMOVE = Code("IST0154", "EnvoyFilterUsesRemoveOperationIncorrectly", _E)
RELATIVE_OPERATION_OF_VERSION = Code("IST0155", "EnvoyFilterUsesRelativeOperationWithProxyVersion", _W)
NO_PROVIDERS = Code("IST0157", "InvalidTelemetryProvider", _W)
TELEMETRY_SELECTORS_CONFLICT = Code("IST0159", "ConflictingTelemetryWorkloadSelectors", _E)
TELEMETRIES_WITHOUT_SELECTOR = Code("IST0160", "MultipleTelemetriesWithoutWorkloadSelectors", _E)
INVALID_CREDENTIAL = Code("IST0161", "InvalidGatewayCredential", _E)
PORT_NOT_ON_SERVICE = Code("IST0162", "GatewayPortNotDefinedOnService", _W)
INTERNAL_GATEWAY = Code("IST0165", "ReferencedInternalGateway", _W)
INEFFECTIVE_SELECTOR = Code("IST0166", "IneffectiveSelector", _W)
INEFFECTIVE_POLICY = Code("IST0167", "IneffectivePolicy", _W)
NEGATIVE_CONDITION = Code("IST0171", "NegativeConditionStatus", _W)
SUBSET_WITHOUT_PODS = Code("IST0173", "DestinationRuleSubsetNotSelectPods", _E)
UNKNOWN_RULE_HOST = Code("IST0174", "UnknownDestinationRuleHost", _W)
PROTOCOLS_CONFLICT = Code("IST0177", "ConflictingServiceEntryProtocol", _W)

CODES: dict[str, Code] = {code.id: code for code in list(globals().values()) if isinstance(code, Code)}
"""All of them, by Istio's code."""
