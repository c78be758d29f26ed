-- Applied by a superuser in one transaction. Schema serving is internal; what readers use is in schema public.
CREATE SCHEMA IF NOT EXISTS serving AUTHORIZATION braid_owner;
CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public;
CREATE EXTENSION IF NOT EXISTS hll SCHEMA public;
GRANT USAGE, CREATE ON SCHEMA public TO braid_owner;
