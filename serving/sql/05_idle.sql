-- Who stands still in a transaction and is in the way. Nobody else is ended: a notebook may think as long as it likes.
CREATE SCHEMA IF NOT EXISTS serving AUTHORIZATION braid_owner;

-- Ends sessions that have done nothing for so long, and hold a lock on a view of ours, or on what we have made of it; those of
-- the layers have a limit of their own. How many there were.
CREATE OR REPLACE FUNCTION serving.end_idle_readers(idle interval) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- What is remembered of the sessions is as old as this transaction.
    PERFORM pg_stat_clear_snapshot();
    -- guard: who stands still in the way is ended
    RETURN (
        SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid))
        FROM pg_stat_activity AS a
        WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
            AND a.usename NOT IN ('speed', 'batch') AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = a.usesysid)
            AND clock_timestamp() - a.state_change > idle
            AND EXISTS (
                SELECT FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
                WHERE l.pid = a.pid AND l.granted AND c.relkind = 'v' AND pg_get_userbyid(c.relowner) = 'braid_owner'));
END
$$;
ALTER FUNCTION serving.end_idle_readers(interval) OWNER TO braid_owner;
