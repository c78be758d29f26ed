-- Days of other time zones. A row is of one of them, or it is refused: hours of UTC are on two days where midnight is at half past.

CREATE OR REPLACE FUNCTION serving.refuse_zone(bucket timestamptz, zone text, width interval, view_name text) RETURNS date
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a day in % begins within a row of %, the % from % on', zone, view_name, width, bucket
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Ask a view with shorter rows, or the rows of UTC days.';
END
$$;

-- The day in the zone on which all of the row is. STABLE and without search_path, so that the planner takes it apart.
CREATE OR REPLACE FUNCTION serving.local_day(bucket timestamptz, zone text, width interval, view_name text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    -- guard: a row is of one day
    SELECT CASE WHEN (bucket AT TIME ZONE zone)::date = ((bucket + (width - interval '1 microsecond')) AT TIME ZONE zone)::date
        THEN (bucket AT TIME ZONE zone)::date ELSE serving.refuse_zone(bucket, zone, width, view_name) END
$$;
