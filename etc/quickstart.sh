#!/bin/sh
# SPDX-License-Identifier: ISC
#
# quickstart.sh - pgturnstile in front of a throw-away primary and replica, shown step by step.
#
# Builds the program in build/quickstart, makes two PostgreSQL servers in a directory of its own,
# and ends all that with itself.  Knows no cluster of the machine and touches none.
set -eu

usage() {
    cat <<'END'
usage: sh etc/quickstart.sh [--check]

  (nothing)  show what it does, stay up to be tried, end with Ctrl-C
  --check    show it, exit 0 when everything was as it should be, else 1

Missing packages are installed as root, or named (exit 2).  PGTURNSTILE=FILE uses that program
instead of building one.
END
}

check=
case ${1:-} in
'') ;;
--check) check=yes ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 1 ;;
esac

top=$(cd "$(dirname "$0")/.." && pwd)
dir=
pids=
failures=0

# ---- words ---------------------------------------------------------------------------------------

bold=
plain=
if [ -t 1 ]; then
    bold=$(printf '\033[1m')
    plain=$(printf '\033[0m')
fi

say() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

die() {
    echo "$0: $1" >&2
    [ -z "${2:-}" ] || tail -n 30 "$2" >&2
    exit 1
}

# until_true WHAT LOG COMMAND...: waits half a minute for the command to succeed.
until_true() {
    what=$1
    log=$2
    shift 2
    tries=300
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "not within 30 seconds: $what" "$log"
        sleep 0.1
    done
}

# ---- the end, however it comes -------------------------------------------------------------------

# The last started is the first to go: the pooler before its servers.
end() {
    trap '' INT TERM HUP
    for pid in $pids; do
        kill -QUIT "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ -z "$dir" ] || rm -rf "$dir"
}

trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- the program ---------------------------------------------------------------------------------

# A tree that was configured in place can only be built there.
compile() {
    if [ -e "$top/config.status" ]; then
        where=$top
    else
        where=$top/build/quickstart
        mkdir -p "$where"
        [ -x "$top/configure" ] || "$top/autogen.sh" || return
    fi
    cd "$where"
    [ -e Makefile ] || "$top/configure" || return
    make -j"$(nproc)" pgturnstile
}

build() {
    program=${PGTURNSTILE:-}
    sh "$top/etc/install-deps.sh" demo || exit
    [ -z "$program" ] || return 0
    say "Building"
    mkdir -p "$top/build/quickstart"
    log=$top/build/quickstart.log
    (compile) >"$log" 2>&1 </dev/null || die "it does not build, see $log" "$log"
    program=$top/build/quickstart/pgturnstile
    [ ! -e "$top/config.status" ] || program=$top/pgturnstile
    "$program" --version
}

# ---- servers -------------------------------------------------------------------------------------

# PostgreSQL does not run as root; its Debian package has made a user.
choose_user() {
    user=$(id -un)
    as_user=
    [ "$(id -u)" != 0 ] || user=postgres
    [ "$user" = "$(id -un)" ] ||
        as_user="setpriv --reuid=$user --regid=$user --init-groups --inh-caps=-all"
    bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    [ -x "$bin/initdb" ] || die "no PostgreSQL server below /usr/lib/postgresql"
}

# Whether nobody listens on a TCP port of this machine.
is_free() {
    ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        grep -q "$(printf ':%04X' "$1") [0-9A-F:]* 0A"
}

# free_port FIRST: the first free one from there.
free_port() {
    port=$1
    until is_free "$port"; do
        port=$((port + 1))
    done
    echo "$port"
}

# as_superuser SERVER COMMAND...: over the server's own socket, which only we reach.
as_superuser() {
    socket=$dir/$1
    command=$bin/$2
    shift 2
    # shellcheck disable=SC2086 # a list of words, or none
    $as_user "$command" -h "$socket" -U postgres "$@"
}

# start_server NAME PORT.  demo.node is ours: what PostgreSQL itself says of a node, such as cluster_name, is
# always the primary's here.
start_server() {
    # shellcheck disable=SC2086
    $as_user "$bin/postgres" -D "$dir/$1/data" -p "$2" -c cluster_name="$1" -c demo.node="$1" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir/$1" \
        -c wal_retrieve_retry_interval=100ms >"$dir/$1.log" 2>&1 </dev/null &
    pids="$! $pids"
    until_true "$1 answers" "$dir/$1.log" \
        as_superuser "$1" pg_isready -q -p "$2"
}

make_dir() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/pgturnstile-demo.XXXXXX")
    mkdir -m 700 "$dir/primary" "$dir/replica"
    chown "$user" "$dir" "$dir/primary" "$dir/replica"
    cd "$dir"
}

start_servers() {
    say "A primary and a streaming replica in $dir"
    # shellcheck disable=SC2086
    $as_user "$bin/initdb" -D "$dir/primary/data" -U postgres -E UTF8 --locale=C.UTF-8 -N \
        --auth-local=trust --auth-host=scram-sha-256 >"$dir/initdb.log" 2>&1 ||
        die "initdb failed" "$dir/initdb.log"
    primary=$(free_port 25432)
    start_server primary "$primary"
    as_superuser primary psql -X -q -v ON_ERROR_STOP=1 -p "$primary" -d postgres \
        <"$top/etc/demo/shop.sql" >"$dir/shop.log" 2>&1 || die "shop.sql failed" "$dir/shop.log"
    as_superuser primary pg_basebackup -D "$dir/replica/data" -p "$primary" -c fast -N -R \
        >"$dir/basebackup.log" 2>&1 || die "pg_basebackup failed" "$dir/basebackup.log"
    replica=$(free_port $((primary + 1)))
    start_server replica "$replica"
    echo "primary: 127.0.0.1:$primary    replica: 127.0.0.1:$replica"
}

start_pgturnstile() {
    port=$(free_port 6432)
    say "pgturnstile in front of both, on port $port"
    sed "s|@PORT@|$port|; s|@USER@|${as_user:+$user}|; s|@DIR@|$dir|; s|@PRIMARY@|$primary|;
        s|@REPLICA@|$replica|" "$top/etc/demo/shop.ini" >"$dir/shop.ini"
    cp "$top/etc/demo/userlist.txt" "$dir/userlist.txt"
    chmod 600 "$dir/shop.ini" "$dir/userlist.txt"
    chown "$user" "$dir/shop.ini" "$dir/userlist.txt"
    sed -n '/^\[databases\]/,$p' "$dir/shop.ini"
    console=postgresql://ops:ops-password@127.0.0.1:$port/pgturnstile
    "$program" "$dir/shop.ini" >"$dir/pgturnstile.log" 2>&1 </dev/null &
    pooler=$!
    pids="$pooler $pids"
    # Until the monitor has asked both nodes for their roles, reads stay on the primary.
    until_true "a read is answered by the replica" "$dir/pgturnstile.log" reads_from_replica
}

# ---- asking and checking -------------------------------------------------------------------------

tenant_url() {
    echo "postgresql://app.$1:app-password@127.0.0.1:$port/shop"
}

reads_from_replica() {
    kill -0 "$pooler" 2>/dev/null || die "pgturnstile did not start" "$dir/pgturnstile.log"
    [ "$("$bin/psql" -X -A -t -c "SELECT current_setting('demo.node')" "$(tenant_url acme)" \
        2>&1)" = replica ]
}

# ask WHO URL STATEMENT...: one session; shows statements and answers, keeps these in $answer.
ask() {
    who=$1
    url=$2
    shift 2
    n=0
    for statement; do
        n=$((n + 1))
        set -- "$@" -v "said$n=$who=> $statement" -c "\\echo :said$n" -c "$statement"
        shift
    done
    answer=$("$bin/psql" -X -q -P footer=off "$url" "$@" 2>&1) || true
    printf '%s\n' "$answer"
    answer=$(printf '%s\n' "$answer" | grep -v "^$who=> ") || true
}

tenant() {
    name=$1
    shift
    ask "$name" "$(tenant_url "$name")" "$@"
}

unexpected() {
    echo "UNEXPECTED: $1"
    failures=$((failures + 1))
}

# expect REGEX, refute REGEX: in the last answer, and not in it.
expect() {
    printf '%s\n' "$answer" | grep -q "$1" || unexpected "nothing there matches '$1'"
}

refute() {
    ! printf '%s\n' "$answer" | grep -q "$1" || unexpected "something there matches '$1'"
}

# ---- the tour ------------------------------------------------------------------------------------

show_rows() {
    say "Whose rows? The same user, password and table; the tenant is in the user's name"
    tenant acme 'SELECT * FROM orders ORDER BY id'
    expect 'anvil' && refute 'umbrella' && refute 'stapler'
    tenant globex 'SELECT * FROM orders ORDER BY id'
    expect 'umbrella' && refute 'anvil' && refute 'stapler'
    tenant initech 'SELECT * FROM orders ORDER BY id'
    expect 'stapler' && refute 'anvil' && refute 'umbrella'
}

show_route() {
    say "Which node answers? Proven reads go to the replica, everything else to the primary"
    tenant acme "SELECT current_setting('demo.node') AS read_answered_by"
    expect 'replica'
    tenant acme "INSERT INTO orders (item) VALUES ('giant magnet')
            RETURNING business_id, current_setting('demo.node') AS write_answered_by"
    expect '42 .*primary'
    tenant acme "/* route: primary */ SELECT current_setting('demo.node') AS hint_obeyed_by"
    expect 'primary'
}

show_timeout() {
    say "A timeout above the tier's (30s) is lowered, one below it is not"
    tenant initech 'SHOW statement_timeout' \
        "SET statement_timeout = '1h'" 'SHOW statement_timeout' \
        "SET statement_timeout = '5s'" 'SHOW statement_timeout'
    expect 'lowered to 30000 ms' && expect '30s' && expect '5s' && refute '1h'
}

show_forgery() {
    say "Another tenant's id is refused, wherever it is said"
    tenant acme "SET app.current_business_id = '7'" \
        "SELECT set_config('app.current_business_id', '7', false)" \
        'SELECT DISTINCT business_id FROM orders'
    expect 'ERROR: .*permission denied' && expect '42' && refute '^ *7$'
    echo "PGOPTIONS='-c app.current_business_id=7' psql '$(tenant_url acme)'"
    ask acme "$(tenant_url acme)?options=-c%20app.current_business_id%3D7" 'SELECT 1'
    expect 'FATAL: .*permission denied'
}

show_limit() {
    say "The standard tier has a bucket of 5 statements, one more every 5 seconds; others do not notice"
    tenant globex 'SELECT 1' 'SELECT 2' 'SELECT 3' 'SELECT 4' 'SELECT 5' 'SELECT 6' 'SELECT 7'
    expect 'ERROR: .*limit "rate" of tenant "globex" is reached'
    tenant acme "SELECT 'not limited' AS acme"
    expect 'not limited'
}

# show TABLE COLUMN...: some columns of a table of the console; $answer has them all.
show() {
    printf 'console=> SHOW %s\n' "$1"
    answer=$("$bin/psql" -X -A -F '|' -P footer=off "$console" -c "SHOW $1" 2>&1) || true
    shift
    printf '%s\n' "$answer" | awk -F '|' -v wanted="$*" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; n = split(wanted, names, " ") }
        { for (i = 1; i <= n; i++) {
              cell[NR, i] = $at[names[i]]
              if (length(cell[NR, i]) > width[i]) width[i] = length(cell[NR, i]) } }
        END { for (row = 1; row <= NR; row++) {
                  for (i = 1; i <= n; i++) printf "%-*s   ", width[i], cell[row, i]
                  print "" } }'
}

show_console() {
    say "What the console says, in part"
    show STATS database total_xact_count total_query_count avg_query_time total_wait_time
    expect '^shop|'
    show TENANTS name tier statements limited refused clamped tokens quota_left
    expect '^acme|42|enterprise' && expect '^globex|7|standard' && expect '^initech|99|'
    show NODES database host port role
    expect 'primary' && expect 'replica'
}

invite() {
    say "It stays up. Try it from another terminal; Ctrl-C ends it"
    cat <<END
psql '$(tenant_url acme)'
psql '$(tenant_url globex)' -c 'SELECT * FROM orders'
psql '$console' -c 'SHOW TENANTS'

without pgturnstile there is no tenant, and no row:
psql 'postgresql://app:app-password@127.0.0.1:$primary/shop' -c 'SELECT * FROM orders'

configuration, and log:
$dir/shop.ini
$dir/pgturnstile.log
END
}

build
choose_user
make_dir
start_servers
start_pgturnstile
show_rows
show_route
show_timeout
show_forgery
show_limit
show_console
if [ -n "$check" ]; then
    say "$failures unexpected"
    [ "$failures" -eq 0 ]
    exit
fi
invite
wait "$pooler" || die "pgturnstile has ended" "$dir/pgturnstile.log"
