"""SVIDs as the Workload API hands them over."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from meshlib.security.workload_messages import X509Svid, X509SvidResponse, write_svids


def der_chain(svid: Svid) -> bytes:
    return b"".join([each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(svid.chain_pem)])


def der_key(svid: Svid) -> bytes:
    return load_pem_private_key(svid.key_pem, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def message_of(svid: Svid, root: Authority) -> X509Svid:
    return X509Svid(svid.identity.text, der_chain(svid), der_key(svid), root.root_der)


def response_of(svid: Svid, root: Authority) -> bytes:
    return write_svids(X509SvidResponse([message_of(svid, root)], {}))
