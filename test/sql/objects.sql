-- SPDX-License-Identifier: ISC
--
-- The objects that the shapes of this folder name; made by the role that runs them.
CREATE TABLE t (id int PRIMARY KEY, a int, b text);
INSERT INTO t SELECT n, n, n::text FROM generate_series(1, 10) n;
CREATE VIEW v AS SELECT id, a FROM t;
CREATE SEQUENCE seq;
CREATE UNLOGGED TABLE t_unlogged (id int);
CREATE FUNCTION f_stable(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_immutable(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_volatile() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION f_volatile(t) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE VIEW v_volatile AS SELECT f_volatile();
CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1';
CREATE TABLE customer (id bigserial PRIMARY KEY, name text, email text UNIQUE, is_active boolean DEFAULT true, created_at timestamptz DEFAULT now(), tags text[], manager_id bigint REFERENCES customer);
CREATE TABLE "order" (id bigserial PRIMARY KEY, customer_id bigint REFERENCES customer, status text, total numeric(12, 2), placed_at timestamptz, data jsonb, lock_version int DEFAULT 0);
CREATE TABLE item (id bigserial PRIMARY KEY, order_id bigint REFERENCES "order", sku text, quantity int, price numeric(12, 2), notes tsvector);
CREATE TABLE session (key varchar(40) PRIMARY KEY, data text, expires_at timestamptz);
CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
CREATE VIEW active_customer AS SELECT * FROM customer WHERE is_active;
