// SPDX-License-Identifier: ISC
//
// pgx_app.go - an application of pgx 4; prints what it sees.
//
// Connects as the PG* environment says.  With the argument `changes`: that scene alone.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

var schema = strings.Join(append([]string{"drv_pgx"}, os.Args[1:]...), "_")
var ctx = context.Background()

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func show(label string, values ...interface{}) {
	fmt.Print(label, ":")
	for _, value := range values {
		if err, is := value.(error); is {
			var pg *pgconn.PgError
			if errors.As(err, &pg) {
				value = pg.Code + " " + pg.Message
			} else {
				value = fmt.Sprintf("%T", err)
			}
		}
		fmt.Printf(" %v", value)
	}
	fmt.Println()
}

type querier interface {
	Query(ctx context.Context, sql string, args ...interface{}) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...interface{}) (pgconn.CommandTag, error)
}

// All rows, or the error.
func query(on querier, sql string, args ...interface{}) interface{} {
	rows, err := on.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	all := [][]interface{}{}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		all = append(all, values)
	}
	if rows.Err() != nil {
		return rows.Err()
	}
	return all
}

func exec(on querier, sql string, args ...interface{}) interface{} {
	tag, err := on.Exec(ctx, sql, args...)
	if err != nil {
		return err
	}
	return tag
}

func connect(options ...string) *pgx.Conn {
	conn, err := pgx.Connect(ctx, strings.Join(append(options, "search_path="+schema), " "))
	must(err)
	return conn
}

func statements(one, two *pgx.Conn) {
	fmt.Println("# statements, cached and prepared")
	for n := 0; n < 12; n++ {
		show(fmt.Sprint(n), query(one, "SELECT $1::int + 1", n), query(two, "SELECT $1::text || '!'", fmt.Sprint(n)))
	}
	described, err := one.Prepare(ctx, "mine", "SELECT g FROM generate_series(1, $1::int) g")
	must(err)
	show("described", described.ParamOIDs, string(described.Fields[0].Name))
	show("by name", query(one, "mine", 3))
	must(one.Deallocate(ctx, "mine"))
	show("deallocated", exec(one, "EXECUTE mine(1)"))
	for _, mode := range []string{"statement_cache_capacity=5", "statement_cache_mode=describe", "statement_cache_capacity=0"} {
		other := connect(mode)
		total := 0
		for turn := 0; turn < 3; turn++ {
			for n := 0; n < 12; n++ {
				var sum int
				must(other.QueryRow(ctx, fmt.Sprintf("SELECT %d + $1::int", n), turn).Scan(&sum))
				total += sum
			}
		}
		show(mode, total, query(other, "SELECT $1::text", pgx.QuerySimpleProtocol(true), "it's"))
		must(other.Close(ctx))
	}
}

func types(conn *pgx.Conn) {
	fmt.Println("# types, as binary and text")
	sql := "SELECT $1::int8, $2::numeric::text, $3::bytea, $4::text, $5::int[]::text, $6::jsonb, $7::bool, $8::timestamptz, $9::float8, $10::text[], $11::uuid::text"
	args := []interface{}{int64(-7), "123456789012.000100", []byte{0, 255, 16}, nil, []int32{1, 2, 3},
		map[string]interface{}{"k": []string{"ü"}}, true, time.Date(2024, 2, 29, 12, 34, 56, 789000000, time.UTC), 1.5e-10,
		[]string{"a", "b \"c\""}, "00000000-0000-0000-0000-00000000002a"}
	for _, formats := range []pgx.QueryResultFormats{{pgx.BinaryFormatCode}, {pgx.TextFormatCode}} {
		var number int64
		var numeric, list, uuid string
		var data []byte
		var text *string
		var json map[string]interface{}
		var yes bool
		var at time.Time
		var float float64
		var texts []string
		must(conn.QueryRow(ctx, sql, append([]interface{}{formats}, args...)...).Scan(&number, &numeric, &data, &text, &list, &json,
			&yes, &at, &float, &texts, &uuid))
		show("row", number, numeric, data, text == nil, list, json, yes, at.UTC(), float, texts, uuid)
	}
	var numbers pgtype.Int4Array
	must(conn.QueryRow(ctx, "SELECT ARRAY[1, NULL, 3]").Scan(&numbers))
	show("array", numbers.Elements[0].Int, numbers.Elements[1].Status == pgtype.Null, numbers.Dimensions[0].Length)
}

func batches(conn *pgx.Conn) {
	fmt.Println("# batches")
	for turn := 0; turn < 3; turn++ {
		batch := &pgx.Batch{}
		for n := 0; n < 20; n++ {
			batch.Queue("INSERT INTO t VALUES ($1, $2) RETURNING id", turn*100+n, "batched")
			batch.Queue("SELECT count(*) FROM t WHERE id = $1", turn*100+n)
		}
		results := conn.SendBatch(ctx, batch)
		total := 0
		for n := 0; n < 40; n++ {
			var value int
			must(results.QueryRow().Scan(&value))
			total += value
		}
		must(results.Close())
		show("batch", total)
	}
	batch := &pgx.Batch{}
	for _, id := range []int{1000, 1001, 1000, 1002} {
		batch.Queue("INSERT INTO t VALUES ($1, 'again')", id)
	}
	results := conn.SendBatch(ctx, batch)
	for n := 0; n < 4; n++ {
		_, err := results.Exec()
		show("exec", err != nil, err)
	}
	results.Close()
	show("all or none", query(conn, "SELECT count(*) FROM t WHERE id >= 1000"))
}

func transactions(one, two *pgx.Conn) {
	fmt.Println("# transactions")
	show("rolled back", one.BeginFunc(ctx, func(tx pgx.Tx) error {
		show("inserted", exec(tx, "INSERT INTO t VALUES (2000, 'mine')"))
		show("before the commit", query(two, "SELECT count(*) FROM t WHERE id = 2000"))
		show("in a savepoint", tx.BeginFunc(ctx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, "INSERT INTO t VALUES (2000, 'again')")
			return err
		}))
		show("goes on", query(tx, "SELECT note FROM t WHERE id = 2000"))
		return fmt.Errorf("changed my mind")
	}))
	tx, err := one.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable})
	must(err)
	show("characteristics", query(tx, "SHOW transaction_isolation"), query(tx, "SHOW transaction_read_only"))
	show("read only", exec(tx, "DELETE FROM t"))
	show("then", query(tx, "SELECT 1"))
	show("commit", tx.Commit(ctx) == pgx.ErrTxCommitRollback)
	show("count", query(one, "SELECT count(*) FROM t"))
	results, err := one.PgConn().Exec(ctx, "SELECT 1; SELECT 2; SELECT 1/0; SELECT 3").ReadAll()
	show("several", len(results), err)
}

func cursors(conn *pgx.Conn) {
	fmt.Println("# cursors")
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		show("declared", exec(tx, "DECLARE c SCROLL CURSOR FOR SELECT g FROM generate_series(1, 100) g"))
		show("fetched", query(tx, "FETCH 3 FROM c"), exec(tx, "MOVE 50 IN c"), query(tx, "FETCH BACKWARD 2 FROM c"))
		return nil
	}))
	rows, err := conn.Query(ctx, "SELECT generate_series(1, 100000)")
	must(err)
	rows.Next()
	rows.Close()
	show("left early", query(conn, "SELECT 'usable'"))
}

func copying(conn *pgx.Conn) {
	fmt.Println("# COPY")
	records := [][]interface{}{}
	for n := 3000; n < 6000; n++ {
		records = append(records, []interface{}{n, "copied"})
	}
	count, err := conn.CopyFrom(ctx, pgx.Identifier{schema, "t"}, []string{"id", "note"}, pgx.CopyFromRows(records))
	show("in", count, err)
	count, err = conn.CopyFrom(ctx, pgx.Identifier{schema, "t"}, []string{"id", "note"}, pgx.CopyFromRows(records[:3]))
	show("duplicate", count, err)
	var out bytes.Buffer
	tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM t WHERE id >= 5998 ORDER BY id) TO STDOUT")
	must(err)
	show("out", tag, out.String())
	show("count", query(conn, "SELECT count(*) FROM t WHERE id >= 3000"))
}

func notifications(listener, speaker *pgx.Conn) {
	fmt.Println("# LISTEN and NOTIFY")
	show("listens", exec(listener, "LISTEN "+schema))
	must(speaker.BeginFunc(ctx, func(tx pgx.Tx) error {
		for n := 0; n < 3; n++ {
			exec(tx, "SELECT pg_notify($1, $2)", schema, fmt.Sprint("number ", n))
		}
		return nil
	}))
	for n := 0; n < 3; n++ {
		patience, done := context.WithTimeout(ctx, 20*time.Second)
		heard, err := listener.WaitForNotification(patience)
		done()
		must(err)
		show("heard", heard.Channel, heard.Payload, heard.PID == speaker.PgConn().PID())
	}
	show("listens no more", exec(listener, "UNLISTEN *"))
}

func sessions(one, two *pgx.Conn) {
	fmt.Println("# sessions")
	exec(one, "SET TimeZone = 'Asia/Tokyo'")
	exec(two, "SELECT set_config('TimeZone', 'America/Lima', false)")
	for turn := 0; turn < 3; turn++ {
		for _, conn := range []*pgx.Conn{one, two} {
			show("time zone", conn.PgConn().ParameterStatus("TimeZone"), query(conn, "SELECT '2024-02-29 12:00+00'::timestamptz::text"))
		}
	}
	show("temporary", exec(one, "CREATE TEMP TABLE own (n int)"), query(one, "SELECT count(*) FROM own"))
	show("of the other", query(two, "SELECT count(*) FROM own"))
	show("dropped", exec(one, "DROP TABLE own"))
	var lock bool
	must(one.QueryRow(ctx, "SELECT pg_try_advisory_lock(815)").Scan(&lock))
	show("lock", lock, query(two, "SELECT pg_try_advisory_lock(815)"), query(one, "SELECT pg_advisory_unlock(815)"))
}

func timeouts(conn *pgx.Conn) {
	fmt.Println("# timeouts")
	exec(conn, "SET statement_timeout = '50ms'")
	show("by the server", exec(conn, "SELECT pg_sleep(60)"))
	exec(conn, "RESET statement_timeout")
	started := make(chan struct{})
	go func() {
		watcher := connect()
		for asleep := 0; asleep == 0; {
			must(watcher.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'").Scan(&asleep))
		}
		must(conn.PgConn().CancelRequest(ctx))
		must(watcher.Close(ctx))
		close(started)
	}()
	show("cancelled", exec(conn, "SELECT pg_sleep(60)", pgx.QuerySimpleProtocol(true)))
	<-started
	show("usable", query(conn, "SELECT 1"))
	// This driver gives a connection up whose context has ended.
	other := connect()
	patience, done := context.WithTimeout(ctx, 50*time.Millisecond)
	defer done()
	_, err := other.Exec(patience, "SELECT pg_sleep(60)")
	show("given up", err != nil, other.IsClosed())
}

func pools() {
	fmt.Println("# the driver's own pool")
	config, err := pgxpool.ParseConfig("pool_max_conns=4 search_path=" + schema)
	must(err)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	must(err)
	defer pool.Close()
	var workers sync.WaitGroup
	totals := make([]int, 8)
	for n := range totals {
		workers.Add(1)
		go func(n int) {
			defer workers.Done()
			for turn := 0; turn < 20; turn++ {
				must(pool.BeginFunc(ctx, func(tx pgx.Tx) error {
					var sum int
					err := tx.QueryRow(ctx, "SELECT $1::int + $2::int", n, turn).Scan(&sum)
					totals[n] += sum
					return err
				}))
			}
		}(n)
	}
	workers.Wait()
	show("totals", totals)
}

func changes(one, two *pgx.Conn) {
	fmt.Println("# a table that changes under a cached statement")
	exec(one, "CREATE TABLE changing AS SELECT 1 AS id")
	for turn := 0; turn < 3; turn++ {
		show("rows", query(one, "SELECT * FROM changing"))
	}
	exec(two, "ALTER TABLE changing ADD COLUMN added text DEFAULT 'new'")
	// The server lets a cached statement fail once, where a pooler may prepare it anew unseen.
	rows := query(one, "SELECT * FROM changing")
	if _, failed := rows.(error); failed {
		rows = query(one, "SELECT * FROM changing")
	}
	show("a column more", rows)
}

func main() {
	one, two := connect(), connect()
	exec(one, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	show("schema", exec(one, "CREATE SCHEMA "+schema))
	show("table", exec(one, "CREATE TABLE t (id int PRIMARY KEY, note text)"))
	if len(os.Args) > 1 {
		changes(one, two)
	} else {
		statements(one, two)
		types(one)
		batches(one)
		transactions(one, two)
		cursors(two)
		copying(one)
		notifications(one, two)
		sessions(one, two)
		timeouts(two)
		pools()
	}
	show("dropped", exec(one, "DROP SCHEMA "+schema+" CASCADE"))
}
