"""What formats of access logs say, in Envoy's operators: read and checked here, put to work by ``telemetry/access_log``."""
