-- The catalogue changes: layers with another one are kept out, and views come and go whole.

CREATE OR REPLACE FUNCTION serving.require_catalogue(code_catalogue text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- guard: one catalogue for all
    IF code_catalogue IS DISTINCT FROM (SELECT digest FROM serving.catalogue) THEN
        RAISE EXCEPTION 'this process has catalogue % of views, but the database has %',
            code_catalogue, (SELECT digest FROM serving.catalogue) USING ERRCODE = 'BR002';
    END IF;
END
$$;

-- These versions, whose tables are there, are what layers write from now on. Others stay as they are for readers until the
-- next publication. Runs that were planned before are given up, because they compute other rows.
CREATE OR REPLACE FUNCTION serving.set_catalogue(new_digest text, versions jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO serving.view_version (view_name, version, digest, state, shown_sql)
    SELECT view_name, version, digest, state, shown_sql FROM jsonb_populate_recordset(NULL::serving.view_version, versions)
    ON CONFLICT (view_name, version) DO UPDATE SET shown_sql = EXCLUDED.shown_sql;
    IF new_digest = (SELECT digest FROM serving.catalogue) THEN
        RETURN;
    END IF;
    INSERT INTO serving.catalogue (digest) VALUES (new_digest) ON CONFLICT (only_row) DO UPDATE SET digest = EXCLUDED.digest;
    UPDATE serving.view_version AS v SET state = CASE v.state WHEN 'live' THEN 'leaving' ELSE 'retired' END
    WHERE v.state IN ('building', 'live') AND (v.view_name, v.version) NOT IN (
        SELECT view_name, version FROM jsonb_populate_recordset(NULL::serving.view_version, versions));
    UPDATE serving.run SET state = 'failed', failed_at = clock_timestamp(), error = 'the catalogue of views has changed'
    WHERE state = 'running';
    -- Where nothing was ever counted nothing is missing.
    IF NOT EXISTS (SELECT FROM serving.speed_progress WHERE next_offset > 0) AND NOT EXISTS (SELECT FROM serving.run) THEN
        PERFORM serving.show_views(NULL);
    END IF;
END
$$;

-- Nobody reads the view from now on until the transaction ends. Who waits for it a second gives way, so that questions which
-- queue behind it go on, and comes again; who stands still in a transaction and holds it is ended after ten seconds.
CREATE OR REPLACE FUNCTION serving.lock_view(view regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    had text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '1s', true);
    LOOP
        BEGIN
            -- It changes nothing, and locks the view alone, while LOCK TABLE would lock all that is behind it.
            EXECUTE format('ALTER VIEW %s RESET (security_barrier)', view);
            PERFORM set_config('lock_timeout', had, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM serving.end_idle_readers('10 seconds');
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END
$$;

-- Readers see the versions that have their history, and none that is not filled any more; true if that changes anything.
CREATE OR REPLACE FUNCTION serving.show_views(by_run_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    changing serving.view_version;
    shown text;
    changed boolean := false;
BEGIN
    FOR changing IN SELECT * FROM serving.view_version WHERE state = 'leaving' ORDER BY view_name LOOP
        FOREACH shown IN ARRAY ARRAY[changing.view_name, changing.view_name || '_sketches'] LOOP
            PERFORM serving.lock_view(v.oid) FROM pg_class AS v
            WHERE v.oid = to_regclass(format('public.%I', shown));
            EXECUTE format('DROP FUNCTION IF EXISTS public.%I(bigint)', shown || '_as_of');
            EXECUTE format('DROP FUNCTION IF EXISTS public.%I(text, date, date)', shown || '_local_days');
            EXECUTE format('DROP VIEW IF EXISTS public.%I', shown);
        END LOOP;
        FOREACH shown IN ARRAY ARRAY['_merged', '_by_run', '_batch'] LOOP
            EXECUTE format('DROP VIEW IF EXISTS serving.%I', changing.view_name || shown);
        END LOOP;
        changed := true;
    END LOOP;
    FOR changing IN SELECT * FROM serving.view_version WHERE state = 'building' ORDER BY view_name LOOP
        EXECUTE changing.shown_sql;
        changed := true;
    END LOOP;
    UPDATE serving.view_version SET state = 'retired' WHERE state = 'leaving';
    UPDATE serving.view_version SET state = 'live', run_id = by_run_id WHERE state = 'building';
    RETURN changed;
END
$$;

-- Deletes the tables of one version that nobody sees; how many there were: one or none.
CREATE OR REPLACE FUNCTION serving.drop_version() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    gone serving.view_version;
    stored_name text;
BEGIN
    SELECT * INTO gone FROM serving.view_version WHERE state = 'retired' LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    stored_name := gone.view_name || CASE WHEN gone.version > 1 THEN '_v' || gone.version ELSE '' END;
    -- One after the other: a hypertable cannot be dropped together with anything else.
    EXECUTE format('DROP TABLE IF EXISTS serving.%I', 'batch_' || stored_name);
    EXECUTE format('DROP TABLE IF EXISTS serving.%I', 'speed_' || stored_name);
    UPDATE serving.view_version SET state = 'dropped' WHERE view_name = gone.view_name AND version = gone.version;
    RETURN 1;
END
$$;

-- What readers see, and what is on its way.
CREATE OR REPLACE VIEW public.catalogue AS
SELECT view_name, version, state, made_at, run_id FROM serving.view_version WHERE state <> 'dropped';
