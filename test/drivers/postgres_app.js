// SPDX-License-Identifier: ISC
//
// postgres_app.js - an application of postgres.js; prints what it sees.
//
// Connects as the PG* environment says.  With the argument `changes`: that scene alone.
'use strict';

const postgres = require('postgres');
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const { inspect } = require('util');

const scene = process.argv[2];
const schema = scene ? `drv_postgres_js_${scene}` : 'drv_postgres_js';

function show(label, ...values) {
  console.log(`${label}:`, ...values.map((value) => inspect(value, { breakLength: Infinity, depth: 5 })));
}

// Show what a promise comes to, or the error.
async function attempt(label, promise) {
  try {
    show(label, Array.from(await promise));
  } catch (error) {
    show(label, error.code, error.message);
  }
}

function connect(options) {
  return postgres({ onnotice: () => {}, ...options, connection: { search_path: schema, ...options?.connection } });
}

async function statements(sql) {
  console.log('# statements: prepared at once, pipelined');
  for (let n = 0; n < 5; n++) {
    show(n, ...(await Promise.all([sql`SELECT ${n}::int + 1 AS n`, sql`SELECT ${String(n)} || '!' AS t`,
      sql`SELECT * FROM t WHERE id = ${n}`])).map((rows) => rows[0]));
  }
  const described = await sql`SELECT id, note FROM t WHERE id = ${1}`.describe();
  show('described', described.types, described.columns.map((column) => column.name));
  await attempt('wrong', sql`SELECT nothing`);
  await attempt('simple', sql`SELECT 1 AS one; SELECT 2 AS two`.simple());
  await attempt('unsafe', sql.unsafe('SELECT $1::int AS n', [7]));
  const many = await Promise.all(Array.from({ length: 100 }, (_, n) => sql`SELECT ${n}::int AS n`));
  show('pipelined', many.reduce((sum, rows) => sum + rows[0].n, 0));
  const plain = connect({ max: 2, prepare: false });
  show('not prepared', ...(await Promise.all([1, 2, 3].map((n) => plain`SELECT ${n}::int AS n`))).map((rows) => rows[0]));
  await plain.end();
}

async function types(sql) {
  console.log('# types');
  show('row', (await sql`SELECT ${-7}::int8 AS i, ${'123456789012.000100'}::numeric AS n, ${Buffer.from([0, 255, 16])}::bytea AS b,
    ${null}::text AS nothing, ${sql.array([1, 2, 3])}::int[] AS a, ${sql.json({ k: [1, 'ü'] })} AS j, ${true}::bool AS yes,
    ${new Date('2024-02-29T12:34:56.789Z')}::timestamptz AS ts, ${1.5e-10}::float8 AS f`)[0]);
  const rows = Array.from({ length: 50 }, (_, n) => ({ id: n + 1, note: `note ${n}` }));
  show('inserted', (await sql`INSERT INTO t ${sql(rows)} RETURNING id`).length);
  show('values', (await sql`SELECT id FROM t WHERE id IN ${sql([1, 2, 3])} ORDER BY id`.values()).flat());
  show('identifiers', await sql`SELECT ${sql('id')} FROM ${sql(`${schema}.t`)} WHERE id = 1`.then((found) => found[0]));
}

async function transactions(sql) {
  console.log('# transactions');
  await sql.begin(async (tx) => {
    await tx`UPDATE t SET note = 'mine' WHERE id = 1`;
    show('before the commit', (await sql`SELECT note FROM t WHERE id = 1`)[0]);
    await attempt('in a savepoint', tx.savepoint((inner) => inner`INSERT INTO t VALUES (1, 'again')`));
    show('goes on', (await tx`SELECT note FROM t WHERE id = 1`)[0]);
  });
  show('after it', (await sql`SELECT note FROM t WHERE id = 1`)[0]);
  await attempt('rolled back', sql.begin(async (tx) => {
    await tx`DELETE FROM t`;
    throw new Error('changed my mind');
  }));
  await attempt('pipelined', sql.begin((tx) => [tx`SELECT 1 AS n`, tx`SELECT 1/0`, tx`DELETE FROM t`]));
  await attempt('read only', sql.begin('ISOLATION LEVEL SERIALIZABLE READ ONLY', (tx) => tx`DELETE FROM t`));
  show('count', (await sql`SELECT count(*) FROM t`)[0]);
}

async function cursors(sql) {
  console.log('# cursors');
  let sum = 0;
  await sql`SELECT g FROM generate_series(1, 1000) g`.cursor(90, (rows) => {
    sum += rows.reduce((total, row) => total + row.g, 0);
  });
  show('sum', sum);
  for await (const rows of sql`SELECT g FROM generate_series(1, 1000) g`.cursor(3)) {
    show('left early', rows);
    break;
  }
  let count = 0;
  await sql`SELECT generate_series(1, 500)`.forEach(() => { count++; });
  show('each', count);
}

async function copy(sql) {
  console.log('# COPY');
  const lines = Array.from({ length: 3000 }, (_, n) => `${n + 2000}\tcopied\n`);
  await pipeline(Readable.from(lines), await sql`COPY t FROM STDIN`.writable());
  let out = '';
  for await (const chunk of await sql`COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT`.readable()) out += chunk;
  show('out', out);
  show('count', (await sql`SELECT count(*) FROM t WHERE id >= 2000`)[0]);
}

async function notifications(sql) {
  console.log('# LISTEN and NOTIFY');
  const heard = [];
  let enough;
  const all = new Promise((resolve) => { enough = resolve; });
  const { unlisten } = await sql.listen(schema, (payload) => heard.push(payload) === 4 && enough());
  await sql.begin(async (tx) => {
    for (let n = 0; n < 3; n++) await tx.notify(schema, `number ${n}`);
  });
  await sql.notify(schema, 'on its own');
  await all;
  show('heard', heard);
  await unlisten();
}

async function sessions(sql) {
  console.log('# sessions');
  const notices = [];
  const [one, two] = [{ connection: { TimeZone: 'Asia/Tokyo', application_name: 'one' }, onnotice: (notice) => notices.push(notice.message) },
    { connection: { TimeZone: 'America/Lima', statement_timeout: 1000 } }].map((options) => connect({ max: 1, ...options }));
  for (let turn = 0; turn < 3; turn++) {
    show('time zones', ...(await Promise.all([one, two].map((each) => each`SELECT '2024-02-29 12:00+00'::timestamptz::text AS at,
      current_setting('application_name') AS name`))).map((rows) => rows[0]), one.parameters.TimeZone);
  }
  await attempt('timed out', two`SELECT pg_sleep(60)`);
  await one`DO $$ BEGIN RAISE NOTICE 'noticed'; END $$`;
  show('notices', notices);
  const reserved = await sql.reserve();
  await reserved`SET TimeZone = 'Europe/Rome'`;
  await reserved`CREATE TEMP TABLE own AS SELECT 1 AS n`;
  await attempt('reserved', reserved`SELECT *, current_setting('TimeZone') AS zone FROM own`);
  await attempt('of the other', one`SELECT * FROM own`);
  await reserved`DISCARD ALL`.simple();
  reserved.release();
  await Promise.all([one.end(), two.end()]);
}

async function cancels(sql) {
  console.log('# cancels');
  const query = sql`SELECT pg_sleep(60) AS cancelled`;
  const sleeping = attempt('cancelled', query);
  while (!(await sql`SELECT FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60) AS cancelled'`).count);
  query.cancel();
  await sleeping;
  await attempt('usable', sql`SELECT 1 AS n`);
}

async function many(sql) {
  console.log('# many at a time');
  const work = async (n) => {
    let total = 0;
    for (let turn = 0; turn < 20; turn++) {
      total += await sql.begin(async (tx) => (await tx`SELECT ${n}::int + ${turn}::int AS n`)[0].n);
    }
    return total;
  };
  show('totals', await Promise.all([...Array(8).keys()].map(work)));
}

async function changes(sql) {
  console.log('# a table that changes under a prepared statement');
  const one = connect({ max: 1 });
  await one`CREATE TABLE changing AS SELECT 1 AS id`;
  for (let turn = 0; turn < 3; turn++) await attempt('rows', one`SELECT * FROM changing`);
  await sql`ALTER TABLE changing ADD COLUMN added text DEFAULT 'new'`;
  for (let turn = 0; turn < 3; turn++) await attempt('changed', one`SELECT * FROM changing`);
  await one.end();
}

async function main() {
  const sql = connect({ max: 4 });
  await sql`DROP SCHEMA IF EXISTS ${sql(schema)} CASCADE`;
  await sql`CREATE SCHEMA ${sql(schema)}`;
  await sql`CREATE TABLE t (id int PRIMARY KEY, note text)`;
  if (scene) {
    await changes(sql);
  } else {
    for (const act of [statements, types, transactions, cursors, copy, notifications, sessions, cancels, many]) await act(sql);
  }
  await sql`DROP SCHEMA ${sql(schema)} CASCADE`;
  await sql.end();
}

main().catch((error) => {
  console.log(error);
  process.exit(1);
});
