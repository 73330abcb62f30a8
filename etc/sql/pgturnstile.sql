-- SPDX-License-Identifier: ISC
--
-- pgturnstile.sql - row-level security on a tenant's id that SQL cannot forge.
--
-- Installs the schema pgturnstile, or brings it up to date: keys and policies stay.  One transaction,
-- plain SQL for any client, PostgreSQL 13 and later, no extension.  docs/row-level-security.md says
-- how it is used and what it holds against.
--
-- Whoever runs it owns what it makes, and the verifier runs with the owner's rights.  So it should be
-- a superuser, or a role of its own that may see when backends have started (pg_read_all_stats) and
-- that no application can become.
BEGIN;

-- Nothing that an application has made is found by a name in this script.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

CREATE SCHEMA IF NOT EXISTS pgturnstile;

-- Nor is a schema taken over that somebody else has made and filled.
DO $do$
BEGIN
  IF NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
    RAISE EXCEPTION 'role % may not see when backends have started', quote_ident(current_user)
      USING ERRCODE = '42501',
            HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
  END IF;
  IF EXISTS (SELECT FROM pg_namespace
             WHERE nspname = 'pgturnstile' AND nspowner <> current_user::regrole)
     OR EXISTS (SELECT FROM pg_class
                WHERE relnamespace = 'pgturnstile'::regnamespace
                  AND relowner <> current_user::regrole)
     OR EXISTS (SELECT FROM pg_proc
                WHERE pronamespace = 'pgturnstile'::regnamespace
                  AND proowner <> current_user::regrole) THEN
    RAISE EXCEPTION 'the schema pgturnstile, or something in it, belongs to another role'
      USING ERRCODE = '42501',
            HINT = 'Run this as the role that installed it, or look at what is there and drop it.';
  END IF;
END
$do$;

-- ---- keys ---------------------------------------------------------------------------------------

-- The two blocks that HMAC puts before what it hashes (RFC 2104), made once.  A signature names the
-- key that it was made with, so several are valid while keys are exchanged.
CREATE TABLE IF NOT EXISTS pgturnstile.signing_key (
  id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_.-]{1,32}$'),
  ipad bytea NOT NULL CHECK (octet_length(ipad) = 64),
  opad bytea NOT NULL CHECK (octet_length(opad) = 64),
  added_at timestamptz NOT NULL DEFAULT now()
);

-- The setting that carries the id: tenant_setting of pgturnstile.ini.
CREATE TABLE IF NOT EXISTS pgturnstile.verifier (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  id_setting text NOT NULL CHECK (id_setting ~ '^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$')
);
INSERT INTO pgturnstile.verifier (id_setting)
  VALUES ('app.current_business_id') ON CONFLICT DO NOTHING;

-- Without a policy nobody but the owner reads it, members of pg_read_all_data included.
ALTER TABLE pgturnstile.signing_key ENABLE ROW LEVEL SECURITY;

CREATE OR REPLACE FUNCTION pgturnstile.pad(key bytea, fill integer) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  block bytea := decode(repeat(lpad(to_hex(fill), 2, '0'), 64), 'hex');
BEGIN
  FOR i IN 0 .. octet_length(key) - 1 LOOP
    block := set_byte(block, i, get_byte(key, i) # fill);
  END LOOP;
  RETURN block;
END
$function$;

CREATE OR REPLACE FUNCTION pgturnstile.hmac(ipad bytea, opad bytea, message bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
  SELECT pg_catalog.sha256(opad OPERATOR(pg_catalog.||)
         pg_catalog.sha256(ipad OPERATOR(pg_catalog.||) message))
$function$;

-- Adds a key, or gives one of this id another secret.  Signatures by it are good from the commit on.
-- Called with parameters (not constants) the key stands in no text.
CREATE OR REPLACE FUNCTION pgturnstile.add_key(key_id text, key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  IF octet_length(key) NOT BETWEEN 16 AND 64 OR key IS NULL THEN
    RAISE EXCEPTION 'a key has 16 to 64 bytes' USING ERRCODE = '22023';
  END IF;
  INSERT INTO pgturnstile.signing_key (id, ipad, opad)
    VALUES (key_id, pgturnstile.pad(key, 54), pgturnstile.pad(key, 92))
    ON CONFLICT (id) DO UPDATE SET ipad = excluded.ipad, opad = excluded.opad, added_at = now()
    WHERE signing_key.ipad <> excluded.ipad;
END
$function$;

-- Takes a key back: what it has signed is refused from the commit on.
CREATE OR REPLACE FUNCTION pgturnstile.retire_key(key_id text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  DELETE FROM pgturnstile.signing_key WHERE id = key_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no key "%"', key_id USING ERRCODE = '42704';
  END IF;
END
$function$;

-- Who they are, without what they are.
CREATE OR REPLACE VIEW pgturnstile.keys AS
  SELECT id, added_at FROM pgturnstile.signing_key;

-- COPY of the key file into this adds its keys; what is copied stands in no text and in no log,
-- except for a line that is none of a key.
CREATE OR REPLACE VIEW pgturnstile.key_file AS SELECT NULL::text AS line WHERE false;

CREATE OR REPLACE FUNCTION pgturnstile.take_line() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  words text[] := regexp_split_to_array(btrim(new.line, E' \t\r'), '[[:space:]]+');
BEGIN
  IF new.line ~ '^[[:space:]]*([#;]|$)' THEN
    RETURN NULL;
  END IF;
  IF cardinality(words) <> 2 OR words[2] !~ '^([0-9A-Fa-f]{2}){16,64}$' THEN
    RAISE EXCEPTION 'a line is a key''s id and 16 to 64 bytes in hex' USING ERRCODE = '22023';
  END IF;
  PERFORM pgturnstile.add_key(words[1], decode(words[2], 'hex'));
  RETURN new;
END
$function$;

DROP TRIGGER IF EXISTS take_line ON pgturnstile.key_file;
CREATE TRIGGER take_line INSTEAD OF INSERT ON pgturnstile.key_file
  FOR EACH ROW EXECUTE FUNCTION pgturnstile.take_line();

-- ---- the verifier -------------------------------------------------------------------------------

-- The tenant's id, if it was signed for this backend; else 42501, an error rather than no rows, so
-- that nobody takes a broken setup for an empty table.
--
-- STABLE: in a policy it stands in a sub-select, which is run once a statement.  PARALLEL RESTRICTED:
-- a parallel worker has another pid; the leader runs the sub-select and hands its value over.  The
-- start of the backend keeps a signature from being good for a later one with the same pid.  Two
-- digests of the signatures are compared and not the signatures, so that the time it takes tells
-- nothing about how much of one is right.
CREATE OR REPLACE FUNCTION pgturnstile.business_id() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  given text := current_setting('app.context_signature', true);
  tenant text;
  message text;
  key record;
BEGIN
  SELECT k.id, k.ipad, k.opad, v.id_setting INTO key
    FROM pgturnstile.signing_key k, pgturnstile.verifier v
    WHERE k.id = split_part(given, ':', 1) AND octet_length(given) <= 97;
  tenant := current_setting(key.id_setting, true);
  IF tenant <> '' THEN
    SELECT ':' || pg_backend_pid() || ':' || round(extract(epoch FROM a.backend_start) * 1000000)::bigint
      INTO message
      FROM pg_stat_get_activity(pg_backend_pid()) a;
    IF sha256(key.opad || convert_to(given, getdatabaseencoding()))
       = sha256(key.opad || convert_to(key.id || ':' || encode(pgturnstile.hmac(key.ipad, key.opad,
           convert_to(key.id || ':' || octet_length(tenant) || ':' || tenant || message,
                      getdatabaseencoding())), 'hex'), getdatabaseencoding())) THEN
      RETURN tenant;
    END IF;
  END IF;
  RAISE EXCEPTION 'the tenant of this session is not signed'
    USING ERRCODE = '42501',
          HINT = 'Connect through pgturnstile with context_signing_key_file, as a tenant.';
END
$function$;

-- The name of the setting that carries the id.
CREATE OR REPLACE FUNCTION pgturnstile.use_setting(name text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
  UPDATE pgturnstile.verifier SET id_setting = name WHERE id_setting <> name
$function$;

-- ---- policies -----------------------------------------------------------------------------------

-- Has a table show and take only rows whose column is the signed id; again brings it up to date.
-- The policy is a restrictive one, so that no other policy of the table opens what it closes.  A
-- table without any policy that permits something gets one that permits everything else.
CREATE OR REPLACE FUNCTION pgturnstile.protect(target regclass, tenant_column name) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  kind text;
BEGIN
  SELECT format_type(a.atttypid, NULL) INTO kind
    FROM pg_attribute a
    WHERE a.attrelid = target AND a.attname = tenant_column AND a.attnum > 0
      AND NOT a.attisdropped;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'table % has no column %', target, quote_ident(tenant_column)
      USING ERRCODE = '42703';
  END IF;
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
  EXECUTE format('DROP POLICY IF EXISTS pgturnstile_tenant ON %s', target);
  EXECUTE format('CREATE POLICY pgturnstile_tenant ON %1$s AS RESTRICTIVE'
                 ' USING (%2$I = (SELECT pgturnstile.business_id()::%3$s))'
                 ' WITH CHECK (%2$I = (SELECT pgturnstile.business_id()::%3$s))',
                 target, tenant_column, kind);
  IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = target AND polpermissive) THEN
    EXECUTE format('CREATE POLICY pgturnstile_rows ON %s USING (true) WITH CHECK (true)', target);
  END IF;
END
$function$;

-- The tables with that column that protect() has not been called for, or that have changed since.
CREATE OR REPLACE FUNCTION pgturnstile.unprotected(tenant_column name)
RETURNS TABLE (target regclass, problem text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT c.oid::regclass,
         CASE WHEN p.polrelid IS NULL THEN 'no policy pgturnstile_tenant on this column'
              WHEN NOT c.relrowsecurity THEN 'row-level security is not enabled'
              ELSE 'row-level security is not forced on the owner' END
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = tenant_column
                       AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'pgturnstile_tenant'
                         AND NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}'
                         AND strpos(pg_get_expr(p.polqual, p.polrelid),
                                    'pgturnstile.business_id()') > 0
                         AND strpos(pg_get_expr(p.polqual, p.polrelid),
                                    '(' || quote_ident(tenant_column) || ' =') = 1
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND c.relnamespace <> ALL (ARRAY['pg_catalog', 'information_schema']::regnamespace[])
      AND (p.polrelid IS NULL OR NOT c.relrowsecurity OR NOT c.relforcerowsecurity)
    ORDER BY 1
$function$;

-- ---- rights -------------------------------------------------------------------------------------

-- What ALTER DEFAULT PRIVILEGES has given away is taken back.  All that is left to others is to ask
-- who the tenant is, and what does no more than its caller may do anyway.
DO $do$
DECLARE
  found record;
BEGIN
  FOR found IN
    SELECT DISTINCT c.oid::regclass AS target, a.grantee
      FROM pg_class c, aclexplode(c.relacl) a
      WHERE c.relnamespace = 'pgturnstile'::regnamespace AND c.relkind IN ('r', 'v')
        AND a.grantee <> c.relowner
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', found.target,
                   CASE found.grantee WHEN 0 THEN 'PUBLIC' ELSE found.grantee::regrole::text END);
  END LOOP;
  FOR found IN
    SELECT DISTINCT p.oid::regprocedure AS target, a.grantee
      FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
      WHERE p.pronamespace = 'pgturnstile'::regnamespace AND a.grantee <> p.proowner
        AND p.proname NOT IN ('protect', 'unprotected')
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', found.target,
                   CASE found.grantee WHEN 0 THEN 'PUBLIC' ELSE found.grantee::regrole::text END);
  END LOOP;
  FOR found IN
    SELECT DISTINCT a.grantee
      FROM pg_namespace n, aclexplode(n.nspacl) a
      WHERE n.nspname = 'pgturnstile' AND a.grantee <> n.nspowner
  LOOP
    EXECUTE format('REVOKE ALL ON SCHEMA pgturnstile FROM %s CASCADE',
                   CASE found.grantee WHEN 0 THEN 'PUBLIC' ELSE found.grantee::regrole::text END);
  END LOOP;
END
$do$;

GRANT USAGE ON SCHEMA pgturnstile TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgturnstile.business_id() TO PUBLIC;

COMMIT;
