#!/bin/sh
# SPDX-License-Identifier: ISC
#
# run.sh - install what the tests need, build, run them all, say how many passed.
#
# Builds in its own directory from a copy of the sources, so that a tree that was configured in
# place stays as it is.  Ends with the line "N passed, N failed"; exit 0 when nothing failed,
# 1 otherwise, 2 for a wrong command line or missing packages.
set -u

usage() {
    cat <<'END'
usage: sh test/run.sh [--fast] [--long NAME] [--build-dir DIR] [--keep]

  (nothing)        unit tests, lint and integration tests with ASan and UBSan,
                   then what threads meet in with TSan; under 40 minutes
  --fast           a plain build, without the tests marked slow, and of those with many
                   sets of parameters one set each; under 3 minutes
  --long NAME      a plain build and test/long/NAME only
  --build-dir DIR  where to build (default: build)
  --keep           keep data directories and logs of the tests in /tmp/pgt-*
END
}

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
mode=full
long=
while [ $# -gt 0 ]; do
    case $1 in
    --fast) mode=fast ;;
    --long) mode=long; long=${2:-}; shift ;;
    --build-dir) build=${2:?--build-dir wants a directory}; shift ;;
    --keep) PGT_KEEP=1; export PGT_KEEP ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    [ $# -gt 0 ] && shift
done

# Debian's own Python: its packages are not seen by another that stands before it in PATH.
python=/usr/bin/python3
jobs=$(nproc)
passed=0
failed=0
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE

say() {
    printf '\n== %s\n' "$*"
}

count() {
    passed=$((passed + $1))
    failed=$((failed + $2))
}

finish() {
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}

# A step without which the rest makes no sense; its output is shown only when it fails.
must() {
    log=$build/$1.log
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 60 "$log"
        count 0 1
        finish
    fi
}

long_script() {
    script=$top/test/long/$long.py
    [ -f "$script" ] && [ "$long" != stage ] && return 0
    echo "no long test '$long'; there are:" >&2
    find "$top/test/long" -name '*.py' ! -name stage.py | sed 's|.*/|  |; s|\.py$||' | sort >&2
    return 1
}

# What git knows or would add, without what a build in place has left there: make would take its
# objects for up to date.  Without git the tree itself, which must not be configured then.
copy_sources() {
    tree=$build/tree
    rm -rf "$tree"
    if git -C "$top" rev-parse --git-dir >/dev/null 2>&1; then
        mkdir "$tree"
        git -C "$top" ls-files -z --cached --others --exclude-standard |
            (cd "$top" && tar -cf - --null --ignore-failed-read -T -) 2>/dev/null |
            tar -xf - -C "$tree"
    elif [ -e "$top/config.status" ]; then
        echo "configured in place: run 'make distclean' first" >&2
        exit 2
    else
        tree=$top
    fi
    [ -x "$tree/configure" ] || must autogen "$tree/autogen.sh"
}

# shellcheck disable=SC2317 # called through must
configure_and_make() {
    mkdir -p "$dir" && cd "$dir" && "$tree/configure" --enable-werror "$@" && make -j"$jobs"
}

# use NAME: that build is meant from here on, its directory is in $dir and the program in PGTURNSTILE.
use() {
    dir=$build/$1
    PGTURNSTILE=$dir/pgturnstile
    export PGTURNSTILE
}

# build NAME OPTIONS...: makes it, and uses it.
build() {
    use "$1"
    name=$1
    shift
    say "build $name $*"
    must "$name" configure_and_make "$@"
}

# shellcheck disable=SC2317 # called through must
make_fuzzers() {
    # shellcheck disable=SC2046 # a list of words
    make -C "$dir" -j"$jobs" $(sed -n 's/^fuzzers += //p' "$tree/test/fuzz/fuzz.am")
}

# sum WORD FILE: the number in cmocka's lines "[  WORD  ] 12 test(s)...", 0 when there is none.
sum() {
    awk -v word="$1" '$2 == word && /test\(s\)/ { n += $4 } END { print n + 0 }' "$2"
}

# Unit tests and lint.  A program that has died before it could count is one failure.
check() {
    say "unit tests and lint"
    rm -f "$dir"/test/*/*.trs
    make -C "$dir" -k -j"$jobs" check >"$build/check.log" 2>&1 </dev/null
    status=$?
    before=$failed
    for result in "$dir"/test/*/*.trs; do
        [ -f "$result" ] || continue
        log=${result%.trs}.log
        ok=$(sum PASSED "$log")
        bad=$(sum FAILED "$log")
        case $(sed -n 's/^:test-result: //p' "$result") in
        PASS) count $((ok > 0 ? ok : 1)) 0 ;;
        SKIP) ;;
        *) cat "$log"; count "$ok" $((bad > 0 ? bad : 1)) ;;
        esac
    done
    if [ $status -ne 0 ] && [ "$failed" -eq "$before" ]; then
        tail -n 60 "$build/check.log"
        count 0 1
    fi
    echo "$passed passed, $failed failed so far"
}

check_format() {
    say "format"
    if make -C "$dir" format-check >"$build/format.log" 2>&1 </dev/null; then
        count 1 0
    else
        grep error: "$build/format.log"
        count 0 1
    fi
}

# integration PYTEST-OPTIONS...
integration() {
    say "integration tests $*"
    # A test waits for a sixth of its time: with one more there is work for two processors.
    # ThreadSanitizer of this age wants addresses where it has always seen them.
    straight=
    setarch -R true 2>/dev/null && straight='setarch -R'
    # shellcheck disable=SC2086 # a list of words
    (cd "$tree/test/integration" && $straight "$python" -m pytest -q -n 3 "$@") \
        >"$build/pytest.log" 2>&1 </dev/null
    status=$?
    cat "$build/pytest.log"
    # The last line: "1 failed, 5 passed, 2 errors in 3.21s"
    counted=$(tail -n 1 "$build/pytest.log" | tr -d '=,' | awk '{
        for (i = 2; i <= NF; i++) {
            if ($i == "passed") ok += $(i - 1)
            if ($i == "failed" || $i ~ /^errors?$/) bad += $(i - 1)
        }
        print ok + 0, bad + 0 }')
    # shellcheck disable=SC2086 # two words
    count $counted
    case $status:$counted in
    0:* | 5:*) ;; # 5: none selected
    *' 0') count 0 1 ;;
    esac
}

# shellcheck disable=SC2317 # called through must
npm_ci() {
    rm -rf "$build/node" && mkdir "$build/node" && cp -R "$tree/test/drivers/node/." "$build/node" &&
        cd "$build/node" && npm ci --ignore-scripts --no-audit --no-fund
}

# The drivers of Node.js are in no Debian package; their versions and sums are in the lock file.
install_node_modules() {
    say "drivers of Node.js"
    must npm npm_ci
    PGTURNSTILE_NODE_MODULES=$build/node/node_modules
    export PGTURNSTILE_NODE_MODULES
}

[ $mode != long ] || long_script || exit 2
case $mode:$long in
full:* | long:threads) packages='all' ;;
*) packages='test' ;;
esac
sh "$top/etc/install-deps.sh" $packages </dev/null || exit 2
mkdir -p "$build" && build=$(cd "$build" && pwd) || exit 2
echo '*' >"$build/.gitignore"
copy_sources

case $mode in
fast)
    build plain
    check
    check_format
    integration -m 'not slow' --sample 1 -n 4 # they wait more than they work
    ;;
full)
    build asan --enable-sanitizers=address,undefined --enable-failpoints
    check
    check_format
    # Without all that may be missing, and not for sanitizers, so that it can be seen whether it is hardened.
    build bare --without-pg-query --without-systemd --without-libpq --without-microhttpd \
        --without-cares --without-pam --without-ldap
    check
    use asan
    install_node_modules
    integration
    # Bytes that come and go in pieces, and only sometimes when they are announced.  A batch that goes in
    # pieces is not kept to be sent again, so that a changed result, or type, is seen (ADR 9).
    PGT_FAILPOINTS='send_short:3 send_again:10 recv_short:3 recv_again:10'
    export PGT_FAILPOINTS
    integration --sample 2 -k 'not changed_result and not others_drop' test_protocol.py test_copy.py test_prepared.py \
        test_local_answers.py test_shared_pools.py test_cancel.py test_listen.py test_rescue.py
    unset PGT_FAILPOINTS
    build tsan CC=clang --enable-sanitizers=thread # so that both compilers see all warnings
    PGTURNSTILE_WORKERS=4
    export PGTURNSTILE_WORKERS
    integration -m tsan
    ;;
long)
    if [ "$long" = threads ]; then
        install_node_modules
        build tsan CC=clang --enable-sanitizers=thread
    elif [ "$long" = fuzz ]; then
        build fuzz CC=clang --enable-fuzz --enable-sanitizers=address,undefined
        must fuzzers make_fuzzers
        PGT_FUZZERS=$dir
        build coverage CC=clang --enable-coverage=llvm
        must counted make_fuzzers
        PGT_COVERAGE=$dir
        export PGT_FUZZERS PGT_COVERAGE
    elif [ "$long" = coverage ]; then
        install_node_modules
        build coverage --enable-coverage --enable-failpoints
        PGT_COVERAGE=$dir
        export PGT_COVERAGE
    else
        build plain
    fi
    say "$script"
    if "$python" "$script" </dev/null; then count 1 0; else count 0 1; fi
    ;;
esac
finish
