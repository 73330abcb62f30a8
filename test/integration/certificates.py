# SPDX-License-Identifier: ISC
#
# certificates.py - a certificate authority in a folder of its own, and what it signs.
#
# Knows nothing of who uses them.
"""make_authority(), issue(), issue_by_itself(): files NAME.key and NAME.crt, made by openssl."""
import subprocess

from machine import give_to_service_user, scratch_dir


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _hand_over(*paths):
    for path in paths:
        path.chmod(0o600 if path.suffix == ".key" else 0o644)
        give_to_service_user(path)


def make_authority():
    """The folder; the authority's own are `ca.key` and `ca.crt`."""
    where = scratch_dir("tls")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA",
            "-keyout", where / "ca.key", "-out", where / "ca.crt")
    _hand_over(where / "ca.key", where / "ca.crt")
    return where


def issue(where, name, common_name):
    """A key and a certificate for `localhost` and 127.0.0.1, in place of those that there were."""
    extensions, request = where / f"{name}.ext", where / f"{name}.csr"
    key, certificate = where / f"{name}.key", where / f"{name}.crt"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={common_name}",
            "-keyout", key, "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", where / "ca.crt", "-CAkey", where / "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)
    _hand_over(key, certificate)


def issue_by_itself(where, name, *how):
    """The same, signed with its own key; `how` says which, and by which hash."""
    key, certificate = where / f"{name}.key", where / f"{name}.crt"
    openssl("req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1", *how, "-keyout", key, "-out", certificate)
    _hand_over(key, certificate)
