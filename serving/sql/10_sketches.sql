-- Sketches in SQL. Results equal those of contract/sketches byte for byte (tested). No name is a keyword of any SQL dialect, as
-- ROLLUP is: tools that parse a question before they send it refuse such a call, or read it as GROUP BY ROLLUP. `rollup` stays
-- as another name of sketch_merge for those who know it from timescaledb-toolkit.
--
-- A histogram is a sorted bigint[] of `bin << 48 | count`; bin b holds (2^(b/32), 2^((b+1)/32)], bin -321 all up to 2^-10.
-- None of these functions sets search_path: that costs more than the work. They name the schema of all that they call.

-- As sum, but a bigint, which every client reads: PostgreSQL's sum(bigint) is numeric. What does not fit is an error.
CREATE OR REPLACE AGGREGATE public.total(bigint) (
    sfunc = pg_catalog.int8pl, stype = bigint, combinefunc = pg_catalog.int8pl, parallel = safe
);

CREATE OR REPLACE AGGREGATE public.sketch_merge(public.hll) (
    sfunc = public.hll_union_trans, stype = internal, finalfunc = public.hll_pack,
    combinefunc = public.hll_union_internal, serialfunc = public.hll_serialize, deserialfunc = public.hll_deserialize,
    parallel = safe
);
CREATE OR REPLACE AGGREGATE public.rollup(public.hll) (
    sfunc = public.hll_union_trans, stype = internal, finalfunc = public.hll_pack,
    combinefunc = public.hll_union_internal, serialfunc = public.hll_serialize, deserialfunc = public.hll_deserialize,
    parallel = safe
);

-- As sketch_merge, for groups of few rows, as merged views have them: the first row is the state as it is, so a group of one costs
-- nothing. Each further row is unpacked and packed, which sketch_merge does once a group, however large (measured: 4.6 us).
CREATE OR REPLACE AGGREGATE public.hll_merge(public.hll) (
    sfunc = public.hll_union, stype = public.hll, combinefunc = public.hll_union, parallel = safe
);

CREATE OR REPLACE FUNCTION public.distinct_count(sketch public.hll) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT round(public.hll_cardinality(sketch))::bigint $$;

-- distinct_count(sketch_merge(sketch)) in one step.
CREATE OR REPLACE AGGREGATE public.merged_count(public.hll) (
    sfunc = public.hll_union, stype = public.hll, finalfunc = public.distinct_count, combinefunc = public.hll_union,
    parallel = safe
);

-- Entries in any order, bins repeated, become one canonical histogram; 9223372036854775807 is a mark and no entry.
CREATE OR REPLACE FUNCTION serving.histogram_compact(entries bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    RETURN (
        SELECT coalesce(array_agg(packed ORDER BY packed), '{}')
        FROM (
            SELECT ((entry >> 48) << 48) + sum(entry & 281474976710655)::bigint AS packed
            FROM unnest(entries) AS entry
            WHERE entry <> 9223372036854775807
            GROUP BY entry >> 48
        ) AS bins
    );
END
$$;

CREATE OR REPLACE FUNCTION public.histogram_add(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    entry bigint;
    place int;
BEGIN
    IF cardinality(b) > cardinality(a) THEN RETURN public.histogram_add(b, a); END IF;
    IF cardinality(b) > 20 THEN RETURN serving.histogram_compact(a || b); END IF;
    -- A few entries, as a speed commit brings them, go in one by one: nine times as fast as sorting all (measured).
    FOREACH entry IN ARRAY b LOOP
        place := width_bucket(entry | 281474976710655, a);
        IF place > 0 AND a[place] >> 48 = entry >> 48 THEN
            a[place] := a[place] + (entry & 281474976710655);
        ELSE
            a := a[:place] || entry || a[place + 1:];
        END IF;
    END LOOP;
    RETURN a;
END
$$;

-- A state is one canonical histogram, or the mark and then entries in any order. The first histogram becomes the state
-- without a call, so groups of one row, most rows of a merged view, cost next to nothing. Small ones are added at once: to
-- sort a few entries at the end takes as long as to sort many.
CREATE OR REPLACE FUNCTION serving.histogram_gather(state bigint[], more bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    IF state[1] IS DISTINCT FROM 9223372036854775807 THEN
        IF cardinality(more) <= 20 AND more[1] IS DISTINCT FROM 9223372036854775807 THEN
            RETURN public.histogram_add(state, more);
        END IF;
        state := 9223372036854775807 || state;
    END IF;
    state := state || more;
    -- A concatenation copies the state: compaction now and then keeps that linear in the number of rows.
    IF cardinality(state) > 4096 THEN
        state := 9223372036854775807 || serving.histogram_compact(state);
    END IF;
    RETURN state;
END
$$;

CREATE OR REPLACE FUNCTION serving.histogram_settle(state bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    IF state[1] = 9223372036854775807 THEN
        RETURN serving.histogram_compact(state);
    END IF;
    RETURN state;
END
$$;

CREATE OR REPLACE AGGREGATE public.sketch_merge(bigint[]) (
    sfunc = serving.histogram_gather, stype = bigint[], finalfunc = serving.histogram_settle,
    combinefunc = serving.histogram_gather, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.rollup(bigint[]) (
    sfunc = serving.histogram_gather, stype = bigint[], finalfunc = serving.histogram_settle,
    combinefunc = serving.histogram_gather, parallel = safe
);

-- The value at rank ceil(fraction * n), at least 1, of n, within 1.1 %; NULL of an empty histogram.
CREATE OR REPLACE FUNCTION public.approx_percentile(fraction double precision, histogram bigint[]) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    entry bigint;
    remaining bigint := 0;
BEGIN
    IF NOT fraction BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'approx_percentile takes a fraction from 0 to 1, not %; the 95th percentile is 0.95', fraction
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH entry IN ARRAY histogram LOOP
        remaining := remaining + (entry & 281474976710655);
    END LOOP;
    IF remaining IS NULL THEN
        -- A null is no entry.
        RETURN public.approx_percentile(fraction, array_remove(histogram, NULL));
    END IF;
    remaining := greatest(1, ceil(fraction * remaining));
    FOREACH entry IN ARRAY histogram LOOP
        remaining := remaining - (entry & 281474976710655);
        IF remaining <= 0 THEN
            -- The value with the least worst relative error in a bin (lo, hi]: 2 lo hi / (lo + hi), with hi = lo * 2^(1/32).
            RETURN CASE WHEN entry >> 48 <= -321 THEN 0 ELSE
                2 * power(2::float8, (entry >> 48) / 32.0::float8) * power(2::float8, ((entry >> 48) + 1) / 32.0::float8)
                / (power(2::float8, (entry >> 48) / 32.0::float8) + power(2::float8, ((entry >> 48) + 1) / 32.0::float8))
            END;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- approx_percentile(fraction, sketch_merge(histogram)) in one step. The fraction is the same in all rows of a group.
DO $$
BEGIN
    IF to_regtype('serving.percentile_state') IS NULL THEN
        CREATE TYPE serving.percentile_state AS (fraction double precision, histogram bigint[]);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION serving.percentile_gather(
    state serving.percentile_state, fraction double precision, more bigint[]
) RETURNS serving.percentile_state
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF more IS NULL OR fraction IS NULL THEN
        RETURN state;
    END IF;
    IF state.histogram IS NULL THEN
        RETURN (fraction, more)::serving.percentile_state;
    END IF;
    IF state.fraction <> fraction THEN
        RAISE EXCEPTION 'merged_percentile takes one fraction for all rows of a group, not % and %', state.fraction, fraction
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN (fraction, serving.histogram_gather(state.histogram, more))::serving.percentile_state;
END
$$;

CREATE OR REPLACE FUNCTION serving.percentile_combine(state serving.percentile_state, more serving.percentile_state)
RETURNS serving.percentile_state
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT serving.percentile_gather(state, more.fraction, more.histogram) $$;

CREATE OR REPLACE FUNCTION serving.percentile_settle(state serving.percentile_state) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT public.approx_percentile(state.fraction, serving.histogram_settle(state.histogram)) $$;

CREATE OR REPLACE AGGREGATE public.merged_percentile(double precision, bigint[]) (
    sfunc = serving.percentile_gather, stype = serving.percentile_state, finalfunc = serving.percentile_settle,
    combinefunc = serving.percentile_combine, parallel = safe
);

-- The mean of a histogram's values within 1.1 %, each taken as approx_percentile takes it; NULL of an empty one.
CREATE OR REPLACE FUNCTION public.approx_average(histogram bigint[]) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT sum((entry & 281474976710655) * CASE WHEN entry >> 48 <= -321 THEN 0 ELSE
        2 * power(2::float8, (entry >> 48) / 32.0::float8) * power(2::float8, ((entry >> 48) + 1) / 32.0::float8)
        / (power(2::float8, (entry >> 48) / 32.0::float8) + power(2::float8, ((entry >> 48) + 1) / 32.0::float8)) END)
        / nullif(sum(entry & 281474976710655), 0)::float8
    FROM unnest(histogram) AS entry
$$;

-- The bins as a table: `count` values in (lower, upper].
CREATE OR REPLACE FUNCTION public.histogram_bins(histogram bigint[])
RETURNS TABLE (lower double precision, upper double precision, count bigint)
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT CASE WHEN entry >> 48 <= -321 THEN 0 ELSE power(2::float8, (entry >> 48) / 32.0::float8) END,
           CASE WHEN entry >> 48 <= -321 THEN power(2::float8, -10) ELSE power(2::float8, ((entry >> 48) + 1) / 32.0::float8) END,
           entry & 281474976710655
    FROM unnest(histogram) AS entry
$$;

-- As many numbers of each, added up place by place: contract/measures_of_many.py says what they are.
CREATE OR REPLACE FUNCTION public.numbers_add(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    IF cardinality(a) <> cardinality(b) THEN
        RAISE EXCEPTION 'numbers_add takes as many numbers of each, not % and %', cardinality(a), cardinality(b)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR place IN 1 .. cardinality(a) LOOP
        a[place] := a[place] + b[place];
    END LOOP;
    RETURN a;
END
$$;

CREATE OR REPLACE AGGREGATE public.sum_each(bigint[]) (
    sfunc = public.numbers_add, stype = bigint[], combinefunc = public.numbers_add, parallel = safe
);

-- A filter of contract/sketches/seen.py as a bit string and back; its bytes keep their order, and OR does not care for bits.
CREATE OR REPLACE FUNCTION public.seen_add(a bytea, b bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    -- In the binary form of a bit string the bits come after four bytes that count them.
    SELECT substring(varbit_send(('x' || encode(a, 'hex'))::varbit | ('x' || encode(b, 'hex'))::varbit) FROM 5)
$$;

CREATE OR REPLACE AGGREGATE public.sketch_merge(bytea) (
    sfunc = public.seen_add, stype = bytea, combinefunc = public.seen_add, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.rollup(bytea) (
    sfunc = public.seen_add, stype = bytea, combinefunc = public.seen_add, parallel = safe
);

-- Whether the value may be in the filter: never false of one that is, seldom true of one that is not.
CREATE OR REPLACE FUNCTION public.seen(value text, filter bytea) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    hashed bigint := public.hll_hash_text(value)::text::bigint;
    bits bigint := 8 * octet_length(filter);
    place bigint := hashed & 4294967295;
    step bigint := (hashed >> 32) & 4294967295 | 1;
BEGIN
    FOR probe IN 1 .. 7 LOOP
        IF get_bit(filter, place & (bits - 1)) = 0 THEN
            RETURN false;
        END IF;
        place := place + step;
    END LOOP;
    RETURN true;
END
$$;

-- About how many values are in the filter (Swamidass, Baldi 2007), from how many of its bits are set.
CREATE OR REPLACE FUNCTION public.seen_count(filter bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT round(-8.0::float8 * octet_length(filter) / 7 * ln(1 - least(
        bit_count(filter) / (8.0::float8 * octet_length(filter)), 1 - 1 / (8.0::float8 * octet_length(filter)))))::bigint
$$;
