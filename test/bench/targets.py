# SPDX-License-Identifier: ISC
"""targets.py - what can stand before a server, and how one gets in: tables, and the ini files.

A new variant of a pooler is a row of TARGETS.  Starts nothing.
"""

import base64
import hashlib
import hmac
import typing

USER = DATABASE = "bench"
PASSWORD = "bench-password"
MANY = 64  # databases, and so pools
TENANTS = 100

POOLER_INI = """\
[{section}]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 12000
server_lifetime = 86400
server_idle_timeout = 86400
log_connections = 0
log_disconnections = 0
log_stats = 0
server_tls_sslmode = {server_tls}
{settings}
[databases]
{databases}
"""

TLS = ("client_tls_sslmode = require\n"
       "client_tls_key_file = {directory}/tls.key\nclient_tls_cert_file = {directory}/tls.crt\n")
SCRAM = "auth_type = scram-sha-256\nauth_file = {directory}/userlist.txt\n"
ACCESS = {
    "trust": "auth_type = trust\nauth_file = {directory}/userlist.txt\n",
    "scram": SCRAM,
    "scram_plain": "auth_type = scram-sha-256\nauth_file = {directory}/passwords.txt\n",
    "tls": SCRAM + TLS,
    "tls_both": SCRAM + TLS,  # and to the servers
}

# Reads go to a replica, each session is a tenant's.
# Under valgrind one text takes its tenant's share of parsing for seconds, and what comes meanwhile goes
# to the primary.
ROUTED = f"""\
workers = 1
parse_max_time = 0
monitor_user = {USER}
monitor_interval = 5
tenant_by = user
"""
ONE_TENANT = f"""
[tiers]
standard = weight=1
[tenants]
acme = tier=standard business_id=42 user={USER}
"""

# Each transaction says whose it is, and all of them share the servers.
SWITCHING = """\
workers = 1
tenant_by = comment
tenant_pool = shared
no_tenant = empty
"""
ANY_TENANT = f"""
[users]
{USER} = tenant_switch=yes
[tiers]
standard = weight=1
[tenants]
""" + "".join(f"t{n} = tier=standard business_id={n}\n" for n in range(1, TENANTS + 1))


class Target(typing.NamedTuple):
    """settings: lines of its own section; sections: what follows the others.  server: where its
    databases are, "postgres", "pair" (with its replica) or "stub" (stub.c).  crowd: so many clients,
    as the run says, are logged in and idle meanwhile."""
    binary: str
    settings: str = ""
    sections: str = ""
    server: str = "postgres"
    databases: int = 0  # 0: the one; else its name with a number, from 0
    crowd: bool = False


def _on_stub(databases, workers):
    shared = f"pool_workers = {workers}\n" if databases == 1 else ""
    return Target("pgturnstile", f"workers = {workers}\n{shared}", server="stub",
                  databases=databases)


TARGETS = {
    "floor": Target("floor"),
    "pgbouncer": Target("pgbouncer"),
    "pgturnstile": Target("pgturnstile", "workers = 1\n"),
    "routed": Target("pgturnstile", ROUTED, ONE_TENANT, server="pair"),
    "switching": Target("pgturnstile", SWITCHING, ANY_TENANT),
    "crowded": Target("pgturnstile", "workers = 1\n", crowd=True),
    "many_1": _on_stub(MANY, 1),
    "many_2": _on_stub(MANY, 2),
    "one_1": _on_stub(1, 1),
    "one_2": _on_stub(1, 2),
}


def ini(target, access, settings, ports, listen_port, directory, pool_size):
    """The text of its file; ports: of its servers, the primary first."""
    names = [f"{DATABASE}{i}" for i in range(target.databases)] or [DATABASE]
    where = f"host={','.join(len(ports) * ['127.0.0.1'])} port={','.join(map(str, ports))}"
    return POOLER_INI.format(
        section=target.binary, port=listen_port, directory=directory, pool_size=pool_size,
        server_tls="require" if access == "tls_both" else "disable",
        settings=ACCESS[access].format(directory=directory) + target.settings + settings,
        databases="\n".join(f"{name} = {where} dbname={DATABASE} user={USER}" for name in names)
    ) + target.sections


def userlist():
    """auth_file with the user's secret as PostgreSQL keeps it, so that no login costs the work of
    its password."""
    salt = b"salt of a test"
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(key).digest(), hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(b).decode() for b in (salt, stored, server))
    return f'"{USER}" "SCRAM-SHA-256$4096:{salt64}${stored64}:{server64}"\n'


def passwords():
    """auth_file with the password itself, of which the keys have to be made."""
    return f'"{USER}" "{PASSWORD}"\n'


def client_environment(port, access="trust"):
    """Nothing but where to connect and how: no options from whoever calls."""
    return {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": USER, "PGDATABASE": DATABASE,
            "PGPASSWORD": PASSWORD, "PGSSLMODE": "require" if access.startswith("tls") else "disable",
            "PGGSSENCMODE": "disable", "PATH": "/usr/local/bin:/usr/bin:/bin"}
