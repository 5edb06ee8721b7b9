"""Certificates made for one test: an authority, and what it signs."""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _build(subject, issuer, key, signing_key, *extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Authority:
    """A certificate authority; files are written to `folder`."""

    def __init__(self, folder, name="authority"):
        self.folder = pathlib.Path(folder)
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _build(
            name, _name(name), self._key, self._key, x509.BasicConstraints(ca=True, path_length=None)
        )
        self.pem = _pem(self._certificate)
        self.file = self.folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    def sign(self, subject):
        """(certificate, key) in PEM for 127.0.0.1 and localhost, of a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        )
        certificate = _build(
            subject, self._certificate.subject, key, self._key, names,
            x509.BasicConstraints(ca=False, path_length=None),
        )
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(certificate), key_pem

    def sign_files(self, subject):
        """The same as two files."""
        pair = self.sign(subject)
        files = self.folder / f"{subject}.crt", self.folder / f"{subject}.key"
        for file, pem in zip(files, pair):
            file.write_bytes(pem)
        return files


def serial_of(pem):
    return x509.load_pem_x509_certificate(pem).serial_number
