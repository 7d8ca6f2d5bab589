"""``tls`` of a DestinationRule: how its clients speak to the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused

if TYPE_CHECKING:
    from meshlib.resources.destination_rule import Tls

_CONFIG_MAP = "configmap://"


def client_tls(tls: Tls | None, namespace: str, loc: Loc) -> Iterator[Notice]:
    """Certificates of one source, all that the mode needs, and no verification that is skipped at the same time."""
    if tls is None:
        return
    credential = tls.credential_name or ""
    if credential.startswith(_CONFIG_MAP):
        yield from _config_map(credential, namespace, (*loc, "credentialName"))
    yield from _skipped_verification(tls, loc)
    if tls.mode not in ("SIMPLE", "MUTUAL"):
        return
    if credential:
        files = (
            ("clientCertificate", tls.client_certificate),
            ("privateKey", tls.private_key),
            ("caCertificates", tls.ca_certificates),
            ("caCrl", tls.ca_crl),
        )
        for name, file in files:
            if file:
                yield refused(
                    "tls-files",
                    (*loc, name),
                    f"credentialName replaces files, and {name} is given as well",
                    "give one or the other",
                )
    elif tls.mode == "MUTUAL":
        for name, file in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not file:
                yield refused("tls-files", loc, f"mode MUTUAL needs {name} (or credentialName)", f"add {name}")


def _config_map(credential: str, namespace: str, loc: Loc) -> Iterator[Notice]:
    parts = credential.removeprefix(_CONFIG_MAP).split("/")
    if len(parts) < 2 or not parts[0] or not parts[1]:
        yield refused("bad-credential", loc, f"{credential!r} names no ConfigMap", f"configmap://{namespace}/NAME")
    elif parts[0] != namespace:
        yield refused(
            "bad-credential",
            loc,
            f"the ConfigMap is in namespace {parts[0]}, and must be in the rule's own, {namespace}",
            f"configmap://{namespace}/{parts[1]}",
        )


def _skipped_verification(tls: Tls, loc: Loc) -> Iterator[Notice]:
    if not tls.insecure_skip_verify or tls.mode not in ("SIMPLE", "MUTUAL"):
        return
    verifying = [("caCertificates", tls.ca_certificates), ("subjectAltNames", tls.subject_alt_names)]
    if tls.mode == "SIMPLE":
        verifying.append(("credentialName", tls.credential_name))
    for name, value in verifying:
        if value:
            yield refused(
                "tls-skip-verify",
                (*loc, name),
                f"insecureSkipVerify contradicts {name}",
                "verify, or leave out what would be verified",
            )
