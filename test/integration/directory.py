# SPDX-License-Identifier: ISC
#
# directory.py - an LDAP directory: a slapd of the tests', with people in it.
#
# Knows nothing of who asks it.
"""Directory(): started; .port, .tls_port, .ca, .asked(), .stop(), .start(), .remove()."""
import re
import shutil
from pathlib import Path

from certificates import issue, make_authority
from conftest import APP_PASSWORD, APP_USER
from machine import Port, give_to_service_user, listens, run, scratch_dir, spawn
from waiting import wait_until

SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/lib/openldap:/usr/bin")
SCHEMA = Path("/etc/ldap/schema")
BASE = "dc=example,dc=com"
PEOPLE = f"ou=people,{BASE}"
SEARCHER, SEARCHER_SECRET = f"cn=searcher,{BASE}", "searcher's own"
PASSWORD = "correct horse"

CONFIG = """\
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {dir}/pid
argsfile {dir}/args
TLSCACertificateFile {tls}/ca.crt
TLSCertificateFile {tls}/slapd.crt
TLSCertificateKeyFile {tls}/slapd.key
{extra}
database mdb
maxsize 10485760
suffix "{base}"
rootdn "{searcher}"
rootpw "{secret}"
directory {dir}/data
access to attrs=userPassword by anonymous auth
access to * by {readers} read by anonymous auth
"""


def _entry(name, *lines):
    return "\n".join([f"dn: {name}", *lines]) + "\n\n"


def _unit(name):
    return _entry(f"ou={name},{BASE}", "objectClass: organizationalUnit", f"ou: {name}")


def _person(name, uid, secret=PASSWORD, cn=None):
    return _entry(name, "objectClass: inetOrgPerson", f"uid: {uid}", f"cn: {cn or uid}", "sn: x",
                  f"userPassword: {secret}")


PEOPLE_LDIF = "".join([
    _entry(BASE, "objectClass: dcObject", "objectClass: organization", "o: example", "dc: example"),
    _unit("people"), _unit("staff"),
    _person(f"uid=anna,{PEOPLE}", "anna"),
    _person(f"uid={APP_USER},{PEOPLE}", APP_USER, APP_PASSWORD),
    _person(f"uid=twin,{PEOPLE}", "twin"),
    _person(f"uid=twin,ou=staff,{BASE}", "twin"),
    # Below anna, so that a name that is not escaped would reach her.
    _person(f"uid=inner,uid=anna,{PEOPLE}", "inner"),
    _person(f"uid=smith\\2C john,{PEOPLE}", "smith, john"),
    _person(f"uid=a*b(c)\\5Cd,{PEOPLE}", "a*b(c)\\d"),
])


class Directory:
    """Anybody may search; with searcher_only, only SEARCHER.  demands_tls: no password without."""

    def __init__(self, searcher_only=False, demands_tls=False):
        self.dir = scratch_dir("ldap")
        self.tls = make_authority()
        self.ca = self.tls / "ca.crt"
        issue(self.tls, "slapd", "slapd")
        self._ports = Port(), Port()
        self.port, self.tls_port = (port.number for port in self._ports)
        self.log = self.dir / "log"
        self._config(searcher_only, demands_tls)
        self._process = None
        self.start()

    def _config(self, searcher_only, demands_tls):
        data, people, self._conf = self.dir / "data", self.dir / "people.ldif", self.dir / "conf"
        data.mkdir()
        people.write_text(PEOPLE_LDIF)
        self._conf.write_text(CONFIG.format(
            schema=SCHEMA, dir=self.dir, tls=self.tls, base=BASE, searcher=SEARCHER,
            secret=SEARCHER_SECRET, readers=f'dn="{SEARCHER}"' if searcher_only else "*",
            extra="security simple_bind=1" if demands_tls else ""))
        for path in (data, people, self._conf):
            give_to_service_user(path)
        run([SLAPD, "-T", "add", "-f", self._conf, "-l", people])

    def start(self):
        self._process = spawn([SLAPD, "-d", "stats", "-f", self._conf, "-h",
                               f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.tls_port}/ "
                               f"ldaps://127.0.0.2:{self.tls_port}/"],
                              self.log, "KILL")
        wait_until(lambda: listens(self.port) and listens(self.tls_port), 60, self.log.read_text)

    def stop(self):
        self._process.kill()
        self._process.wait()

    def remove(self):
        self.stop()
        for port in self._ports:
            port.release()

    def binds(self):
        """The names that were bound with, in turn; "": nobody's."""
        return re.findall(r' BIND dn="([^\n]*)" method=128', self.log.read_text())

    def filters(self):
        return re.findall(r' filter="([^\n]*)"', self.log.read_text())
