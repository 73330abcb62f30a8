// SPDX-License-Identifier: ISC
//
// pg_app.js - an application of node-postgres; prints what it sees.
//
// Connects as the PG* environment says.  With the argument `changes`: that scene alone.
'use strict';

const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');
const { once } = require('events');
const { inspect } = require('util');

const scene = process.argv[2];
const schema = scene ? `drv_pg_js_${scene}` : 'drv_pg_js';
const options = `-c search_path=${schema}`;

function show(label, ...values) {
  console.log(`${label}:`, ...values.map((value) => inspect(value, { breakLength: Infinity, depth: 5 })));
}

// Show what a promise comes to, or the error.
async function attempt(label, promise) {
  try {
    const result = await promise;
    show(label, result.command, result.rowCount, result.rows);
  } catch (error) {
    show(label, error.code, error.message);
  }
}

async function connected() {
  const client = new Client({ options });
  await client.connect();
  return client;
}

async function statements(one, two) {
  console.log('# statements, by name and without; queued without waiting');
  for (let n = 0; n < 8; n++) {
    const [sum, cry, plain] = await Promise.all([
      one.query({ name: 'mine', text: 'SELECT $1::int + 1 AS n', values: [n] }),
      two.query({ name: 'mine', text: "SELECT $1::text || '!' AS t", values: [n] }),
      one.query('SELECT $1::int * 2 AS n', [n]),
    ]);
    show(n, sum.rows, cry.rows, plain.rows);
  }
  await attempt('other text', one.query({ name: 'mine', text: 'SELECT 2' }));
  await attempt('wrong', one.query({ name: 'wrong', text: 'SELECT nothing' }));
  const queued = [];
  for (let n = 0; n < 20; n++) {
    queued.push(one.query({ name: 'mine', text: 'SELECT $1::int + 1 AS n', values: [n] }));
  }
  show('queued', (await Promise.all(queued)).reduce((sum, result) => sum + result.rows[0].n, 0));
}

async function types(client) {
  console.log('# types, as text and binary');
  const values = [-7, '123456789012.000100', Buffer.from([0, 255, 16]), null, [1, null, 3], { k: [1, 'ü'] }, true,
    new Date('2024-02-29T12:34:56.789Z'), 1.5e-10];
  const text = 'SELECT $1::int8 AS i, $2::numeric AS n, $3::bytea AS b, $4::text AS nothing, $5::int[] AS a, $6::jsonb AS j,'
    + ' $7::bool AS yes, $8::timestamptz AS ts, $9::float8 AS f';
  show('text', (await client.query(text, values)).rows[0]);
  const binary = await client.query({ text: 'SELECT $1::int4 AS i, $2::float8 AS f, $3::bool AS yes', values: [7, 1.5, true], binary: true });
  show('binary', binary.rows[0]);
  show('array mode', (await client.query({ text: 'SELECT 1 AS a, 2 AS a', rowMode: 'array' })).rows);
  const several = await client.query('SELECT 1 AS one; SELECT 2 AS two');
  show('several', several.map((result) => result.rows));
}

async function transactions(one, two) {
  console.log('# transactions');
  await one.query('BEGIN');
  await one.query("INSERT INTO t VALUES ($1, 'mine')", [1]);
  show('before the commit', (await two.query('SELECT count(*) FROM t')).rows);
  await one.query('SAVEPOINT s');
  await attempt('duplicate', one.query("INSERT INTO t VALUES (1, 'again')"));
  await attempt('then', one.query('SELECT 1'));
  await one.query('ROLLBACK TO s');
  await one.query('COMMIT');
  show('after it', (await two.query('SELECT * FROM t')).rows);
  const queued = ['BEGIN', 'DELETE FROM t', 'SELECT 1/0', 'SELECT 2', 'ROLLBACK'].map((sql) => one.query(sql));
  for (const [n, promise] of queued.entries()) await attempt(`queued ${n}`, promise);
  await attempt('count', one.query('SELECT count(*) FROM t'));
}

async function cursors(client) {
  console.log('# cursors: portals left open between messages');
  await client.query('BEGIN');
  const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, $1) g', [1000]));
  let sum = 0;
  for (let rows = await cursor.read(90); rows.length; rows = await cursor.read(90)) {
    sum += rows.reduce((total, row) => total + row.g, 0);
  }
  show('sum', sum);
  await cursor.close();
  await client.query('COMMIT');
  const early = client.query(new Cursor('SELECT g FROM generate_series(1, 1000) g'));
  show('early', await early.read(2));
  await early.close();
  await attempt('usable', client.query('SELECT 1 AS n'));
}

async function copy(client) {
  console.log('# COPY');
  const into = client.query(copyFrom('COPY t FROM STDIN'));
  for (let n = 2000; n < 5000; n++) if (!into.write(`${n}\tcopied\n`)) await once(into, 'drain');
  into.end();
  await once(into, 'finish');
  show('in', into.rowCount);
  let out = '';
  for await (const chunk of client.query(copyTo('COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT'))) out += chunk;
  show('out', out);
  const again = client.query(copyFrom('COPY t FROM STDIN'));
  again.end('2000\tagain\n');
  show('duplicate', (await once(again, 'error'))[0].code);
  await attempt('count', client.query('SELECT count(*) FROM t WHERE id >= 2000'));
}

async function notifications(listener, speaker) {
  console.log('# LISTEN and NOTIFY');
  const heard = [];
  let enough;
  const all = new Promise((resolve) => { enough = resolve; });
  listener.on('notification', (message) => heard.push(message) === 3 && enough());
  await listener.query(`LISTEN ${schema}`);
  await speaker.query('BEGIN');
  for (let n = 0; n < 3; n++) await speaker.query('SELECT pg_notify($1, $2)', [schema, `number ${n}`]);
  await speaker.query('COMMIT');
  await all;
  for (const { channel, payload, processId } of heard) show('heard', channel, payload, processId === speaker.processID);
  await listener.query('UNLISTEN *');
}

async function sessions(one, two) {
  console.log('# sessions');
  await one.query("SET TimeZone = 'Asia/Tokyo'");
  await two.query("SELECT set_config('TimeZone', 'America/Lima', false)");
  for (let turn = 0; turn < 3; turn++) {
    const ask = "SELECT '2024-02-29 12:00+00'::timestamptz::text AS at, current_setting('TimeZone') AS zone";
    show('time zones', ...(await Promise.all([one.query(ask), two.query(ask)])).map((result) => result.rows[0]));
  }
  const notice = once(one, 'notice');
  await one.query("DO $$ BEGIN RAISE NOTICE 'noticed' USING HINT = 'a hint'; END $$");
  show('notice', (await notice)[0].message, (await notice)[0].hint);
  await one.query('CREATE TEMP TABLE own AS SELECT 1 AS n');
  await attempt('temporary', one.query('SELECT * FROM own'));
  await attempt('of the other', two.query('SELECT * FROM own'));
  await one.query('DISCARD ALL');
  await attempt('discarded', one.query("SELECT to_regclass('own') AS own, current_setting('search_path') AS path"));
}

async function timeouts(client, watcher) {
  console.log('# timeouts and cancels');
  await client.query("SET statement_timeout = '50ms'");
  await attempt('timed out', client.query('SELECT pg_sleep(60)'));
  await client.query('RESET statement_timeout');
  const sleeping = attempt('cancelled', client.query('SELECT pg_sleep(60) /* node */'));
  const asleep = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60) /* node */' AND state = 'active'";
  while (!(await watcher.query(asleep)).rowCount);
  await sleeping;
  const limited = new Client({ options, statement_timeout: 1000, application_name: 'limited' });
  await limited.connect();
  await attempt('from the start', limited.query('SELECT pg_sleep(60)'));
  await attempt('settings', limited.query("SELECT current_setting('statement_timeout') AS s, current_setting('application_name') AS a"));
  await limited.end();
}

async function pools() {
  console.log("# the driver's own pool");
  const pool = new Pool({ max: 4, options });
  await pool.query('CREATE TABLE work (worker int, turn int)');
  const work = async (n) => {
    let total = 0;
    for (let turn = 0; turn < 20; turn++) {
      const client = await pool.connect();
      await client.query('BEGIN');
      total += (await client.query({ name: 'add', text: 'SELECT $1::int + $2::int AS n', values: [n, turn] })).rows[0].n;
      await client.query('INSERT INTO work VALUES ($1, $2)', [n, turn]);
      await client.query(turn % 2 ? 'COMMIT' : 'ROLLBACK');
      client.release();
    }
    return total;
  };
  show('totals', await Promise.all([...Array(8).keys()].map(work)));
  show('work', (await pool.query('SELECT count(*), sum(turn) FROM work')).rows);
  await pool.end();
}

async function changes(one, two) {
  console.log('# a table that changes under a named statement');
  const all = { name: 'all', text: 'SELECT * FROM changing' };
  await one.query('CREATE TABLE changing AS SELECT 1 AS id');
  for (let turn = 0; turn < 3; turn++) await attempt('rows', one.query(all));
  await two.query("ALTER TABLE changing ADD COLUMN added text DEFAULT 'new'");
  // The server lets the statement fail for ever, where a pooler may prepare it anew unseen.
  await attempt('a column more', one.query(all).catch(() => one.query({ ...all, name: 'anew' })));
}

async function main() {
  const [one, two] = [await connected(), await connected()];
  await one.query('SET client_min_messages = warning');
  await one.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await one.query(`CREATE SCHEMA ${schema}; CREATE TABLE t (id int PRIMARY KEY, note text); RESET client_min_messages`);
  if (scene) {
    await changes(one, two);
  } else {
    await statements(one, two);
    await types(one);
    await transactions(one, two);
    await cursors(two);
    await copy(one);
    await notifications(one, two);
    await sessions(one, two);
    await timeouts(two, one);
    await pools();
  }
  await two.query(`DROP SCHEMA ${schema} CASCADE`);
  await Promise.all([one.end(), two.end()]);
}

main().catch((error) => {
  console.log(error);
  process.exit(1);
});
