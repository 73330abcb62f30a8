-- SPDX-License-Identifier: ISC
--
-- shop.sql - the demo database of quickstart.sh: three tenants in one table, kept apart by RLS.
--
-- Run by a superuser.  The table's owner is not the role that clients use, because an owner is not
-- held to its own policies.
CREATE ROLE app LOGIN PASSWORD 'app-password';
CREATE ROLE monitor LOGIN PASSWORD 'monitor-password';

CREATE DATABASE shop;
\connect shop

CREATE TABLE orders (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id text NOT NULL DEFAULT current_setting('app.current_business_id'),
    item        text NOT NULL
);

INSERT INTO orders (business_id, item) VALUES
    ('42', 'anvil'), ('42', 'rocket skates'),
    ('7', 'umbrella'), ('7', 'parachute'),
    ('99', 'red stapler');

-- Without a tenant the setting is NULL or empty, and no row is equal to that.
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON orders
    USING (business_id = current_setting('app.current_business_id', true));

GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app;
