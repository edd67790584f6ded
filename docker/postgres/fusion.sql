-- The roles of the service and its database. `fusion` owns the tables and is no superuser, so that row-level
-- security holds it, too (docs/access.md); `fusion_worker` gets what workers need when the tables are made. The image of PostgreSQL runs this as its superuser when the volume is
-- new. Run again it changes nothing; docs/operations.md says how an installation from before it is taken along.
\set ON_ERROR_STOP on
\getenv password POSTGRES_PASSWORD
\set worker_password :password
\getenv worker_password WORKER_POSTGRES_PASSWORD

-- Before, the superuser had this name. Nothing connects as it any more.
SELECT 'ALTER ROLE fusion RENAME TO fusion_superuser'
    FROM pg_roles WHERE rolname = 'fusion' AND rolsuper \gexec
SELECT 'ALTER ROLE fusion_superuser NOLOGIN'
    FROM pg_roles WHERE rolname = 'fusion_superuser' \gexec

SELECT 'CREATE ROLE fusion'
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fusion') \gexec
ALTER ROLE fusion LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';

SELECT 'CREATE ROLE fusion_worker'
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fusion_worker') \gexec
ALTER ROLE fusion_worker LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION
    PASSWORD :'worker_password';

SELECT 'CREATE DATABASE fusion OWNER fusion'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'fusion') \gexec
ALTER DATABASE fusion OWNER TO fusion;

-- The superuser has no password: it answers inside the container (`docker compose exec postgres psql`) only.
SELECT format('ALTER ROLE %I PASSWORD NULL', current_user) \gexec

-- What was made before. Indexes and sequences of a table follow it.
\connect fusion
SELECT format('ALTER TABLE %s OWNER TO fusion', oid::regclass)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' \gexec
SELECT format('ALTER FUNCTION %s OWNER TO fusion', oid::regprocedure)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace \gexec
