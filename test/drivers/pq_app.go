// SPDX-License-Identifier: ISC
//
// pq_app.go - an application of database/sql and lib/pq; prints what it sees.
//
// Connects as the PG* environment says.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/lib/pq"
)

const schema = "drv_pq"

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
		var failed *pq.Error
		if err, is := value.(error); is && errors.As(err, &failed) {
			value = string(failed.Code) + " " + failed.Message
		}
		fmt.Printf(" %v", value)
	}
	fmt.Println()
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...interface{}) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...interface{}) (sql.Result, error)
}

// All values of one column, or the error.
func column(on querier, query string, args ...interface{}) interface{} {
	rows, err := on.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	all := []string{}
	for rows.Next() {
		var value sql.NullString
		if err := rows.Scan(&value); err != nil {
			return err
		}
		all = append(all, value.String)
	}
	if rows.Err() != nil {
		return rows.Err()
	}
	return all
}

func exec(on querier, query string, args ...interface{}) interface{} {
	result, err := on.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	count, err := result.RowsAffected()
	must(err)
	return count
}

func statements(db *sql.DB, name string) {
	fmt.Println("# statements,", name)
	add, err := db.Prepare("SELECT $1::int + 1")
	must(err)
	cry, err := db.Prepare("SELECT $1::text || '!'")
	must(err)
	for n := 0; n < 8; n++ {
		var sum int
		var text string
		must(add.QueryRow(n).Scan(&sum))
		must(cry.QueryRow(fmt.Sprint(n)).Scan(&text))
		show(fmt.Sprint(n), sum, text, column(db, "SELECT $1::int * 2", n))
	}
	must(add.Close())
	must(cry.Close())
	_, err = db.Prepare("SELECT nothing")
	show("wrong", err)
	var number int64
	var numeric string
	var data []byte
	var nothing sql.NullString
	var list pq.Int64Array
	var json string
	var yes bool
	var at time.Time
	must(db.QueryRow("SELECT $1::int8, $2::numeric, $3::bytea, $4::text, $5::int[], $6::jsonb, $7::bool, $8::timestamptz",
		int64(-7), "123456789012.000100", []byte{0, 255, 16}, nil, pq.Array([]int64{1, 3}), `{"k": [1, "ü"]}`, true,
		time.Date(2024, 2, 29, 12, 34, 56, 789000000, time.UTC)).Scan(&number, &numeric, &data, &nothing, &list, &json, &yes, &at))
	show("types", number, numeric, data, nothing.Valid, list, json, yes, at.UTC())
}

func transactions(db *sql.DB) {
	fmt.Println("# transactions")
	tx, err := db.Begin()
	must(err)
	show("inserted", exec(tx, "INSERT INTO t VALUES ($1, $2)", 1, "mine"))
	show("before the commit", column(db, "SELECT count(*) FROM t"))
	exec(tx, "SAVEPOINT s")
	show("duplicate", exec(tx, "INSERT INTO t VALUES (1, 'again')"))
	show("then", column(tx, "SELECT 1"))
	exec(tx, "ROLLBACK TO s")
	must(tx.Commit())
	show("after it", column(db, "SELECT note FROM t"))
	tx, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(err)
	show("characteristics", column(tx, "SHOW transaction_isolation"), column(tx, "SHOW transaction_read_only"))
	show("read only", exec(tx, "DELETE FROM t"))
	show("commit", tx.Commit() != nil)
	show("several", exec(db, "SELECT 1; INSERT INTO t VALUES (9, 'never'); SELECT 1/0"), column(db, "SELECT count(*) FROM t"))
	tx, err = db.Begin()
	must(err)
	exec(tx, "DECLARE c CURSOR FOR SELECT generate_series(1, 100)")
	show("fetched", column(tx, "FETCH 3 FROM c"), column(tx, "FETCH 3 FROM c"))
	must(tx.Rollback())
}

func copying(db *sql.DB) {
	fmt.Println("# COPY")
	for _, last := range []int{5000, 2001} {
		tx, err := db.Begin()
		must(err)
		into, err := tx.Prepare(pq.CopyInSchema(schema, "t", "id", "note"))
		must(err)
		for n := 2000; n < last; n++ {
			_, err = into.Exec(n, "copied\t\\")
			must(err)
		}
		_, err = into.Exec()
		show("in", err)
		into.Close()
		show("commit", tx.Commit() == nil)
	}
	show("count", column(db, "SELECT count(*) FROM t WHERE id >= 2000"))
}

func notifications(db *sql.DB) {
	fmt.Println("# LISTEN and NOTIFY")
	listener := pq.NewListener("", time.Second, time.Minute, nil)
	must(listener.Listen(schema))
	conn, err := db.Conn(ctx)
	must(err)
	tx, err := conn.BeginTx(ctx, nil)
	must(err)
	for n := 0; n < 3; n++ {
		exec(tx, "SELECT pg_notify($1, $2)", schema, fmt.Sprint("number ", n))
	}
	must(tx.Commit())
	for n := 0; n < 3; n++ {
		select {
		case heard := <-listener.Notify:
			show("heard", heard.Channel, heard.Extra)
		case <-time.After(20 * time.Second):
			show("heard nothing")
		}
	}
	must(listener.Ping())
	must(listener.UnlistenAll())
	must(listener.Close())
	must(conn.Close())
}

func sessions(db *sql.DB) {
	fmt.Println("# sessions")
	one, err := db.Conn(ctx)
	must(err)
	two, err := db.Conn(ctx)
	must(err)
	exec(one, "SET TimeZone = 'Asia/Tokyo'")
	exec(two, "SET TimeZone = 'America/Lima'")
	for turn := 0; turn < 3; turn++ {
		show("time zones", column(one, "SELECT '2024-02-29 12:00+00'::timestamptz::text"),
			column(two, "SELECT '2024-02-29 12:00+00'::timestamptz::text"))
	}
	onNotice := func(handler func(*pq.Error)) {
		must(one.Raw(func(raw interface{}) error {
			pq.SetNoticeHandler(raw.(driver.Conn), handler)
			return nil
		}))
	}
	onNotice(func(notice *pq.Error) { show("notice", notice.Message) })
	exec(one, "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$")
	onNotice(nil)
	must(one.Close())
	must(two.Close())
}

func timeouts(db *sql.DB) {
	fmt.Println("# timeouts")
	conn, err := db.Conn(ctx)
	must(err)
	exec(conn, "SET statement_timeout = '50ms'")
	show("by the server", exec(conn, "SELECT pg_sleep(60)"))
	exec(conn, "RESET statement_timeout")
	must(conn.Close())
	patience, done := context.WithTimeout(ctx, 50*time.Millisecond)
	defer done()
	_, err = db.ExecContext(patience, "SELECT pg_sleep(60)")
	show("cancelled", err)
	show("usable", column(db, "SELECT 1"))
}

func pools(db *sql.DB) {
	fmt.Println("# the pool of database/sql")
	db.SetMaxOpenConns(4)
	var workers sync.WaitGroup
	totals := make([]int, 8)
	add, err := db.Prepare("SELECT $1::int + $2::int")
	must(err)
	for n := range totals {
		workers.Add(1)
		go func(n int) {
			defer workers.Done()
			for turn := 0; turn < 20; turn++ {
				tx, err := db.Begin()
				must(err)
				var sum int
				must(tx.Stmt(add).QueryRow(n, turn).Scan(&sum))
				totals[n] += sum
				must(tx.Commit())
			}
		}(n)
	}
	workers.Wait()
	must(add.Close())
	show("totals", totals)
}

func main() {
	db, err := sql.Open("postgres", "search_path="+schema)
	must(err)
	exec(db, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	show("schema", exec(db, "CREATE SCHEMA "+schema))
	show("table", exec(db, "CREATE TABLE t (id int PRIMARY KEY, note text)"))
	statements(db, "text")
	binary, err := sql.Open("postgres", "binary_parameters=yes search_path="+schema)
	must(err)
	statements(binary, "binary")
	must(binary.Close())
	transactions(db)
	copying(db)
	notifications(db)
	sessions(db)
	timeouts(db)
	pools(db)
	show("dropped", exec(db, "DROP SCHEMA "+schema+" CASCADE"))
	must(db.Close())
}
