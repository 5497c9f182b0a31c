"""Certificates that nobody signed but themselves."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from support.dovecot import Installation


def certificate_for(directory: Path, *, days: int = 2, begins: str | None = None, ends: str | None = None) -> Path:
    """A self-signed certificate for localhost with its key, in one file. The times are as ``openssl ca`` takes them, where it
    is not to be good from now on for so many days."""
    installation = Installation.find()
    key, request, both = directory / "key.pem", directory / "request.pem", directory / "both.pem"

    def openssl(*arguments: str) -> None:
        program = [installation.openssl(), *arguments]
        subprocess.run(program, check=True, capture_output=True, cwd=directory, env=installation.environment())

    new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    if begins is None or ends is None:
        openssl("req", "-x509", *new.split(), "-days", str(days), "-keyout", str(key), "-out", str(request))
    else:
        openssl("req", *new.split(), "-keyout", str(key), "-out", "asked.pem")
        (directory / "index.txt").write_text("")
        (directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nnew_certs_dir = .\ndefault_md = sha256\n"
            "rand_serial = yes\npolicy = any\ncopy_extensions = copy\n[any]\ncommonName = supplied\n"
        )
        span = ["-startdate", begins, "-enddate", ends]
        own = ["-selfsign", "-keyfile", str(key), "-in", "asked.pem", "-out", str(request), "-batch", "-notext"]
        openssl("ca", "-config", "ca.cnf", *own, *span)
    both.write_bytes(key.read_bytes() + request.read_bytes())
    return both


def server_context(certificate: Path) -> ssl.SSLContext:
    """What a server with that certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
