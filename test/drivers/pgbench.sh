#!/bin/sh
# SPDX-License-Identifier: ISC
#
# pgbench.sh - pgbench in its three modes and with a pipeline, as the PG* environment says.
#
# Run in a directory of its own.  What takes time is left out of what pgbench prints; what its
# transactions have left in the tables is printed instead.
set -eu

schema=drv_pgbench
psql -Xq -c 'SET client_min_messages = warning' -c "DROP SCHEMA IF EXISTS $schema CASCADE" \
    -c "CREATE SCHEMA $schema"
PGOPTIONS="-c search_path=$schema"
export PGOPTIONS

counts() {
    sed -n '/^number of transactions ret/d; /^query mode:/p; /^number of /p' out
}

show() {
    psql -Xc "SELECT sum(abalance) AS accounts, (SELECT sum(tbalance) FROM pgbench_tellers) AS tellers,
                     (SELECT sum(bbalance) FROM pgbench_branches) AS branches,
                     (SELECT count(*) FROM pgbench_history) AS history FROM pgbench_accounts"
}

pgbench -i -q -I dtgvpf >out 2>&1 || { cat out; exit 1; }

run() {
    pgbench -n "$@" >out 2>&1 || { cat out; exit 1; }
    counts
}

for mode in simple extended prepared; do
    echo "# $mode"
    for script in tpcb-like simple-update select-only; do
        run -M "$mode" -b "$script" -c 4 -j 2 -t 25 --random-seed=42
    done
    show
done

cat >pipeline.sql <<'END'
\set account random(1, 1000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :account;
SELECT abalance FROM pgbench_accounts WHERE aid = :account;
INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES (1, 1, :account, 1);
COMMIT;
SELECT count(*) FROM pgbench_branches;
\endpipeline
SELECT 1 AS one \gset
\if :one
    \startpipeline
    SELECT :one + 1;
    SELECT :one + 2;
    \endpipeline
\endif
END
for mode in extended prepared; do
    echo "# pipeline, $mode"
    run -M "$mode" -f pipeline.sql -c 4 -j 2 -t 25
    show
done

cat >retried.sql <<'END'
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1;
UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1;
COMMIT;
END
echo '# serialization failures are tried again'
run -M prepared -f retried.sql -c 4 -j 2 -t 10 --max-tries=1000
show

echo '# a new connection for each transaction'
run -C -S -M extended -c 2 -t 5

PGOPTIONS='-c client_min_messages=warning' psql -Xqc "DROP SCHEMA $schema CASCADE"
