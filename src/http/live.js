/* SPDX-License-Identifier: ISC
 *
 * live.js - the live page: asks for /stats.json every two seconds while it is looked at, and shows
 * it.
 *
 * Names come from clients, so all text goes through textContent.  What is kept is bounded: points
 * of ten minutes; rows of tables are used again.  A number that goes down means that the process was
 * started anew, and makes a gap.
 */
"use strict";
(() => {
const PERIOD = 2000, PERIOD_MAX = 15000, TIMEOUT = 10000;
const SPAN = 600000, SPAN_MIN = 60000; /* milliseconds that charts show */
const POINTS_MAX = 600;
const EVENTS_MAX = 50;

const byId = (id) => document.getElementById(id);
const sum = (rows, column) => rows.reduce((total, row) => total + (row[column] || 0), 0);

/* ---- how values are written ------------------------------------------------------------------- */

const count = (n) => n === null || n === undefined ? "" : n.toLocaleString("en");
function duration(usec) {
	if (usec === null || usec === undefined)
		return "";
	if (usec < 1000)
		return usec + " µs";
	if (usec < 1000000)
		return (usec / 1000).toFixed(usec < 10000 ? 2 : 1) + " ms";
	return (usec / 1000000).toFixed(usec < 10000000 ? 2 : 1) + " s";
}
function bytes(n) {
	const units = ["B", "kB", "MB", "GB", "TB"];
	let i = 0;
	if (n === null || n === undefined)
		return "";
	for (; n >= 1024 && i < units.length - 1; i++)
		n /= 1024;
	return (i ? n.toFixed(1) : n) + " " + units[i];
}
const moment = (usec) => new Date(usec / 1000).toLocaleTimeString();
const rate = (n) => n === null ? "–" : n >= 100 ? Math.round(n).toLocaleString("en") : n.toFixed(1);

/* ---- tables ------------------------------------------------------------------------------------
 *
 * A column: title; text(row), what is shown; sort(row), by which it is ordered; kind, classes of its
 * cells; mark(row), one more class; meter(row), [used, of] or null. */

class Table {
	constructor(element, columns, order) {
		this.columns = columns;
		this.order = order; /* {column, down}, or undefined: as it comes */
		this.rows = [];
		this.head = element.createTHead().insertRow();
		this.body = element.createTBody();
		columns.forEach((column, i) => this.addTitle(column, i));
		this.showOrder();
	}
	addTitle(column, i) {
		const cell = document.createElement("th");
		cell.scope = "col";
		cell.className = column.kind || "";
		if (this.order) {
			const button = document.createElement("button");
			button.textContent = column.title;
			button.addEventListener("click", () => this.sortBy(i));
			cell.append(button);
		} else {
			cell.textContent = column.title;
		}
		this.head.append(cell);
	}
	sortBy(i) {
		const down = this.order.column === i ? !this.order.down
			: (this.columns[i].kind || "").includes("number");
		this.order = { column: i, down };
		this.showOrder();
		this.show(this.rows);
	}
	showOrder() {
		[...this.head.cells].forEach((cell, i) => {
			if (this.order && this.order.column === i)
				cell.setAttribute("aria-sort", this.order.down ? "descending" : "ascending");
			else
				cell.removeAttribute("aria-sort");
		});
	}
	ordered(rows) {
		if (!this.order)
			return rows;
		const column = this.columns[this.order.column], key = column.sort || column.text;
		const compare = (a, b) => typeof a === "string" || typeof b === "string"
			? String(a).localeCompare(String(b)) : (a ?? -Infinity) - (b ?? -Infinity);
		return [...rows].sort((a, b) =>
			(this.order.down ? -1 : 1) * (compare(key(a), key(b)) || 0));
	}
	show(rows) {
		this.rows = rows;
		const ordered = this.ordered(rows);
		while (this.body.rows.length > ordered.length)
			this.body.deleteRow(-1);
		while (this.body.rows.length < ordered.length)
			this.columns.forEach(() => this.lastRow().insertCell());
		ordered.forEach((row, i) => this.columns.forEach((column, j) =>
			showCell(this.body.rows[i].cells[j], column, row)));
	}
	/* The row that has not all of its cells yet, or a new one. */
	lastRow() {
		const last = this.body.rows[this.body.rows.length - 1];
		return last && last.cells.length < this.columns.length ? last : this.body.insertRow();
	}
}

function showCell(cell, column, row) {
	const text = String(column.text(row) ?? "");
	const part = column.meter && column.meter(row);
	const classes = [column.kind, column.mark && column.mark(row)].filter(Boolean).join(" ");
	if (cell.className !== classes)
		cell.className = classes;
	if (!cell.firstChild)
		cell.append(document.createTextNode(""));
	if (cell.firstChild.nodeValue !== text)
		cell.firstChild.nodeValue = text;
	showMeter(cell, part);
}

function showMeter(cell, part) {
	let meter = cell.querySelector("meter");
	if (!part) {
		if (meter)
			meter.remove();
		return;
	}
	if (!meter) {
		meter = document.createElement("meter");
		meter.low = 0.7;
		meter.high = 0.9;
		meter.optimum = 0;
		cell.append(meter);
	}
	meter.value = Math.min(1, Math.max(0, part[0] / part[1]));
	meter.title = Math.round(100 * part[0] / part[1]) + " % used";
}

/* ---- what is in them -------------------------------------------------------------------------- */

const plain = (title, name, kind) => ({ title, kind, text: (row) => row[name] });
const number = (title, name, kind) =>
	({ title, kind: "number " + (kind || ""), text: (row) => count(row[name]), sort: (row) => row[name] });
const time = (title, name, kind) =>
	({ title, kind: "number " + (kind || ""), text: (row) => duration(row[name]), sort: (row) => row[name] });
const used = (left, of) => (row) => row[left] === null || !row[of] ? null : [row[of] - row[left], row[of]];

/* "1000/h 5000/d": the first number; the quota that is left is of the scarcer, so only one alone
 * makes a meter. */
const quotaSize = (row) => /^\d+\/\w+$/.test(row.quota || "") ? parseInt(row.quota, 10) : 0;

const tables = {
	nodes: new Table(byId("nodes"), [
		plain("database", "database", "name"),
		{ title: "node", text: (row) => row.host + ":" + row.port },
		{ title: "role", text: (row) => row.role, mark: (row) =>
			({ primary: "good", replica: "good", unknown: "" })[row.role] ?? "bad" },
		{ title: "lag", kind: "number", text: (row) => duration(row.lag) },
		{ title: "bytes behind", kind: "number minor", text: (row) => bytes(row.lag_bytes) },
		time("answers in", "latency", "minor"),
		number("servers", "servers"), number("in use", "active"),
		{ ...number("wait for locks", "lock_waits", "minor"),
			mark: (row) => row.lock_wait > 100000 ? "warn" : "" },
		plain("why", "error", "text"),
	]),
	pools: new Table(byId("pools"), [
		plain("database", "database", "name"), plain("user", "user", "name"),
		number("clients", "cl_active"),
		{ ...number("wait", "cl_waiting"), mark: (row) => row.cl_waiting ? "warn" : "" },
		{ title: "longest wait", kind: "number", text: (row) =>
			row.cl_waiting ? duration(row.maxwait * 1000000 + row.maxwait_us) : "" },
		number("servers in use", "sv_active"), number("idle", "sv_idle"),
		number("logging in", "sv_login", "minor"),
		plain("mode", "pool_mode", "minor"),
	]),
	tenants: new Table(byId("tenants"), [
		plain("tenant", "name", "name"), plain("tier", "tier", "minor"),
		{ ...number("statements", "statements") },
		{ ...time("p50", "query_p50", "minor") }, time("p95", "query_p95"),
		time("p99", "query_p99", "minor"),
		{ ...number("clients", "cl_active"), meter: (row) =>
			row.max_client_conn ? [row.cl_active + row.cl_waiting, row.max_client_conn] : null },
		{ ...number("wait", "cl_waiting"), mark: (row) => row.cl_waiting ? "warn" : "" },
		{ ...number("rate: left", "tokens"), meter: used("tokens", "burst") },
		{ ...number("quota: left", "quota_left"), meter: (row) =>
			row.quota_left !== null && quotaSize(row)
				? [quotaSize(row) - row.quota_left, quotaSize(row)] : null },
		{ ...number("refused", "limited"), mark: (row) => row.limited ? "warn" : "" },
		{ title: "state", kind: "minor", text: (row) =>
			row.paused ? "paused" : row.maintenance ? "maintenance" : row.readonly ? "read-only" : "" },
	], { column: 2, down: true }),
	events: new Table(byId("events"), [
		{ title: "time", text: (row) => moment(row.time) },
		{ title: "kind", text: (row) => row.kind, mark: (row) =>
			({ ERROR: "bad", WARNING: "warn" })[row.level] || "" },
		plain("database", "database", "name minor"), plain("tenant", "tenant", "name"),
		plain("event", "event", "text"),
		{ title: "times", kind: "number", text: (row) => row.count > 1 ? count(row.count) : "" },
	]),
};

/* Advice has columns of its own, which are shown as they come. */
function showAdvice(rows) {
	byId("advice-section").hidden = !rows.length;
	if (!rows.length)
		return;
	if (!tables.advice)
		tables.advice = new Table(byId("advice"), Object.keys(rows[0]).map((name) =>
			plain(name, name, typeof rows[0][name] === "number" ? "number" : "text")));
	tables.advice.show(rows);
}

/* ---- the last minutes --------------------------------------------------------------------------
 *
 * A point: at, milliseconds by this page's clock; databases, by name {query_count, limited_count,
 * p50, p95, p99}. */

let points = [];
let database = "";

function pointOf(at, counters, latencies) {
	const databases = {};
	for (const row of counters)
		databases[row.database] = { queries: row.query_count, limited: row.limited_count };
	for (const row of latencies)
		if (row.node === null && row.kind === "query" && row.period === "1m" && databases[row.database])
			Object.assign(databases[row.database], { p50: row.p50, p95: row.p95, p99: row.p99, n: row.count });
	return { at, databases };
}

function keepPoint(point) {
	points.push(point);
	points = points.filter((p) => p.at >= point.at - SPAN).slice(-POINTS_MAX);
}

/* Of the database that is chosen, or of all. */
const chosen = (point) => database ? [point.databases[database]].filter(Boolean)
	: Object.values(point.databases);

/* A second, between two points; null: the counter began anew, or nobody has looked for a while. */
function perSecond(before, after, counter) {
	const grown = sum(chosen(after), counter) - sum(chosen(before), counter);
	const passed = (after.at - before.at) / 1000;
	return grown < 0 || passed <= 0 || passed > 60 ? null : grown / passed;
}

/* Quantiles of several databases cannot be put together: the one that has most queries speaks. */
function quantile(point, name) {
	const most = chosen(point).reduce((a, b) => (b.n || 0) > (a ? a.n || 0 : -1) ? b : a, null);
	return most && most[name] !== undefined ? most[name] : null;
}

/* ---- charts ----------------------------------------------------------------------------------- */

const WIDTH = 600, HEIGHT = 120;

/* Draws each run of values without a gap; scale: {from, to, most}. */
function drawLine(svg, kind, values, scale) {
	let run = [];
	const end = () => {
		if (run.length > 1) {
			const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
			line.setAttribute("class", kind);
			line.setAttribute("points", run.join(" "));
			svg.append(line);
		}
		run = [];
	};
	for (const { at, value } of values) {
		if (value === null) {
			end();
			continue;
		}
		const x = WIDTH * (at - scale.from) / (scale.to - scale.from);
		const y = HEIGHT - (HEIGHT - 6) * value / (scale.most || 1);
		run.push(x.toFixed(1) + "," + y.toFixed(1));
	}
	end();
}

function drawCharts() {
	const to = points[points.length - 1].at;
	const from = Math.min(Math.max(points[0].at, to - SPAN), to - SPAN_MIN);
	const rates = points.slice(1).map((p, i) => ({ at: p.at, value: perSecond(points[i], p, "queries") }));
	const times = ["p50", "p95", "p99"].map((name) =>
		points.map((p) => ({ at: p.at, value: quantile(p, name) })));
	const mostRate = Math.max(0, ...rates.map((r) => r.value));
	const mostTime = Math.max(0, ...times.flat().map((t) => t.value));

	byId("rate-chart").replaceChildren();
	drawLine(byId("rate-chart"), "rate", rates, { from, to, most: mostRate });
	byId("rate-most").textContent = "most: " + rate(mostRate);
	byId("time-chart").replaceChildren();
	["p50", "p95", "p99"].forEach((name, i) =>
		drawLine(byId("time-chart"), name, times[i], { from, to, most: mostTime }));
	byId("time-most").textContent = "most: " + duration(mostTime);
	for (const label of document.querySelectorAll(".since"))
		label.textContent = Math.round((to - from) / 60000) + " min ago";
}

/* ---- showing one answer ----------------------------------------------------------------------- */

function showTiles(stats) {
	const last = points[points.length - 1], before = points[points.length - 2];
	const pools = stats.pools.filter((row) => !database || row.database === database);
	const servers = pools.filter((row) => row.database !== "pgbouncer");
	const tile = (name, text) => { byId("tile-" + name).textContent = text; };

	tile("rate", before ? rate(perSecond(before, last, "queries")) : "–");
	tile("limited", before ? rate(perSecond(before, last, "limited")) : "–");
	for (const name of ["p50", "p95", "p99"])
		tile(name, duration(quantile(last, name)) || "–");
	tile("clients", count(sum(servers, "cl_active") + sum(servers, "cl_waiting")));
	tile("waiting", count(sum(servers, "cl_waiting")));
	tile("servers", count(sum(servers, "sv_active")));
}

function showDatabases(counters) {
	const select = byId("database");
	const names = ["", ...counters.map((row) => row.database)];
	if (names.length === select.options.length && names.every((name, i) => select.options[i].value === name))
		return;
	select.replaceChildren(...names.map((name) => new Option(name || "all", name)));
	database = names.includes(database) ? database : "";
	select.value = database;
}

let latest = null;

function show() {
	const mine = (rows) => rows.filter((row) => !database || !row.database || row.database === database);
	if (!latest)
		return;
	showDatabases(latest.counters);
	showTiles(latest);
	drawCharts();
	tables.nodes.show(mine(latest.nodes));
	tables.pools.show(mine(latest.pools).filter((row) => row.database !== "pgbouncer"));
	tables.tenants.show(latest.top_tenants);
	byId("tenants-note").textContent = latest.top_tenants.length
		? "those that have sent most; SHOW TENANTS has all" : "none";
	tables.events.show(mine(latest.events).slice(-EVENTS_MAX).reverse());
	showAdvice(latest.advice || []);
}

/* ---- asking ----------------------------------------------------------------------------------- */

const TOKEN = "pgturnstile-token";
let failures = 0, timer = 0, asking = false;

/* The answer, or null: the token is missing or wrong. */
async function ask(path) {
	const token = sessionStorage.getItem(TOKEN);
	const stop = new AbortController();
	const late = setTimeout(() => stop.abort(), TIMEOUT);
	try {
		const answer = await fetch(path, { signal: stop.signal, cache: "no-store",
			headers: token ? { Authorization: "Bearer " + token } : {} });
		if (answer.status === 401)
			return null;
		if (!answer.ok)
			throw new Error("HTTP " + answer.status);
		return await answer.json();
	} finally {
		clearTimeout(late);
	}
}

function say(text, isBad) {
	byId("state").textContent = text;
	byId("state").className = isBad ? "bad" : "";
}

function askForToken() {
	say("a token is needed", true);
	byId("login-error").textContent = sessionStorage.getItem(TOKEN) ? "This is not the token." : "";
	byId("login").hidden = false;
	byId("main").hidden = true;
}

async function begin() {
	const history = await ask("history.json");
	if (history === null)
		return false;
	const offset = Date.now() - history.now / 1000;
	points = history.points.map((p) => pointOf(p.at / 1000 + offset, p.counters, p.latencies));
	return true;
}

async function look() {
	const stats = (points.length || await begin()) ? await ask("stats.json") : null;
	if (stats === null) {
		askForToken();
		return false;
	}
	latest = stats;
	keepPoint(pointOf(Date.now(), stats.counters, stats.latencies));
	byId("login").hidden = true;
	byId("main").hidden = false;
	show();
	say("as of " + new Date().toLocaleTimeString(), false);
	return true;
}

/* One at a time; while nobody looks, none. */
async function run() {
	let goesOn = true;
	clearTimeout(timer);
	if (asking || document.hidden)
		return;
	asking = true;
	try {
		goesOn = await look();
		failures = 0;
	} catch (error) {
		failures++;
		say("no answer since " + failures + (failures > 1 ? " tries" : " try") + "; trying again", true);
	}
	asking = false;
	if (goesOn)
		timer = setTimeout(run, Math.min(PERIOD * (failures + 1), PERIOD_MAX));
}

byId("database").addEventListener("change", (event) => {
	database = event.target.value;
	show();
});
byId("login").addEventListener("submit", (event) => {
	event.preventDefault();
	sessionStorage.setItem(TOKEN, byId("token").value);
	byId("token").value = "";
	run();
});
document.addEventListener("visibilitychange", run);
run();
})();
