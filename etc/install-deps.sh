#!/bin/sh
# SPDX-License-Identifier: ISC
#
# install-deps.sh [build|demo|test|all] - install the Debian packages to build pgturnstile, or also to
# show it (quickstart.sh), or also to test it; all: with the drivers whose toolchains are heavy, and a
# browser.
#
# Installs only what is missing, as root or by a sudo that does not ask; otherwise prints the
# exact apt line and exits 2.  Makes no PostgreSQL cluster, touches none that exists, and leaves
# no service running or enabled that was not there before.
set -eu

build='build-essential autoconf automake pkg-config
    libev-dev libssl-dev libinih-dev libpg-query-dev libsystemd-dev libpq-dev libmicrohttpd-dev libc-ares-dev libpam0g-dev libldap-dev'
demo='python3 postgresql-15 util-linux'
tests='libcmocka-dev pgbouncer prometheus prometheus-pgbouncer-exporter pgcli slapd
    python3-psycopg python3-pytest python3-pytest-xdist python3-pytest-timeout python3-dnspython
    python3-psycopg2 python3-asyncpg python3-sqlalchemy python3-django libdbd-pg-perl ruby-pg
    clang clang-format-14 libclang-rt-14-dev llvm gcovr iproute2 nftables systemd python3-seccomp'
heavy='openjdk-17-jdk-headless libpostgresql-jdbc-java
    golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev
    chromium chromium-driver python3-selenium'
# Node.js may have come from elsewhere, with an npm of its own.
command -v node >/dev/null || heavy="$heavy nodejs"
command -v npm >/dev/null || heavy="$heavy npm"

case ${1:-build} in
build) wanted=$build ;;
demo) wanted="$build $demo" ;;
test) wanted="$build $demo $tests" ;;
all) wanted="$build $demo $tests $heavy" ;;
*) echo "usage: $0 [build|demo|test|all]" >&2; exit 1 ;;
esac

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

is_missing() {
    case "$missing " in *" $1 "*) return 0 ;; esac
    return 1
}

# postgresql-15 makes and starts a cluster "main" when it is the first of its version, unless the
# common package, which must be there before it, has been told otherwise.
createcluster=/etc/postgresql-common/createcluster.conf
no_main_cluster='s/^#\{0,1\} *create_main_cluster *=.*/create_main_cluster = false/'

if [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root=sudo
else
    echo "Packages are missing, and this user may not install them. Run:" >&2
    if is_missing postgresql-15; then
        echo "    sudo apt-get install --no-install-recommends postgresql-common" >&2
        echo "    sudo sed -i '$no_main_cluster' $createcluster" >&2
    fi
    echo "    sudo apt-get install --no-install-recommends$missing" >&2
    exit 2
fi

apt_install() {
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" </dev/null
}

# systemd does not start a unit that is masked, and its package knows no other way to be told.
has_systemd() {
    [ -d /run/systemd/system ]
}

$as_root apt-get update -q </dev/null || echo "$0: going on with the package lists of before" >&2
if is_missing postgresql-15; then
    apt_install postgresql-common
    $as_root sed -i "$no_main_cluster" "$createcluster"
fi
services=
for service in pgbouncer prometheus prometheus-pgbouncer-exporter slapd; do
    if is_missing "$service"; then services="$services $service"; fi
done
for service in $services; do
    if has_systemd; then
        $as_root systemctl mask "$service.service"
    fi
done
status=0
# shellcheck disable=SC2086 # a list of words
apt_install $missing || status=$?
for service in $services; do
    if has_systemd; then
        $as_root systemctl unmask "$service.service"
        $as_root systemctl disable "$service.service" || true
    elif [ -x "/etc/init.d/$service" ]; then
        $as_root "/etc/init.d/$service" stop || true
        $as_root update-rc.d "$service" disable
    fi
done
exit $status
