-- Left out where the server has not our module, as 15_native.sql is: then what 20_state.sql says in SQL stays. Same results.
RESET ROLE;
CREATE OR REPLACE FUNCTION serving.absorbed_floor() RETURNS bigint
LANGUAGE c STABLE PARALLEL SAFE AS '$libdir/braid', 'braid_absorbed_floor';
SET LOCAL ROLE braid_owner;
