-- Left out where the server has not our module (serving/native): then what 10_sketches.sql says in SQL stays. Same results.

CREATE OR REPLACE FUNCTION serving.native_histogram_gather(internal, bigint[]) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_gather';
CREATE OR REPLACE FUNCTION serving.native_histogram_settle(internal) RETURNS bigint[]
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_settle';
CREATE OR REPLACE FUNCTION serving.native_histogram_combine(internal, internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_combine';
CREATE OR REPLACE FUNCTION serving.native_histogram_serialize(internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_serialize';
CREATE OR REPLACE FUNCTION serving.native_histogram_deserialize(bytea, internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_deserialize';
CREATE OR REPLACE FUNCTION serving.native_hll_gather(internal, public.hll) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_hll_gather';
CREATE OR REPLACE FUNCTION serving.native_hll_settle(internal) RETURNS public.hll
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_hll_settle';
CREATE OR REPLACE FUNCTION serving.native_hll_combine(internal, internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_hll_combine';
CREATE OR REPLACE FUNCTION serving.native_hll_serialize(internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_hll_serialize';
CREATE OR REPLACE FUNCTION serving.native_hll_deserialize(bytea, internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_hll_deserialize';

CREATE OR REPLACE FUNCTION serving.native_hll_count(internal) RETURNS bigint
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_hll_count';
CREATE OR REPLACE FUNCTION serving.native_percentile_gather(internal, double precision, bigint[]) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_percentile_gather';
CREATE OR REPLACE FUNCTION serving.native_percentile_settle(internal) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_percentile_settle';
CREATE OR REPLACE FUNCTION serving.native_percentile_combine(internal, internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/braid', 'braid_percentile_combine';
CREATE OR REPLACE FUNCTION serving.native_percentile_serialize(internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_percentile_serialize';
CREATE OR REPLACE FUNCTION serving.native_percentile_deserialize(bytea, internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_percentile_deserialize';

-- sspace: what a group of one row takes, as most groups are; without it the planner reckons with 8 KB, and sorts.
CREATE OR REPLACE AGGREGATE public.sketch_merge(bigint[]) (
    sfunc = serving.native_histogram_gather, stype = internal, sspace = 160, finalfunc = serving.native_histogram_settle,
    combinefunc = serving.native_histogram_combine, serialfunc = serving.native_histogram_serialize,
    deserialfunc = serving.native_histogram_deserialize, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.rollup(bigint[]) (
    sfunc = serving.native_histogram_gather, stype = internal, sspace = 160, finalfunc = serving.native_histogram_settle,
    combinefunc = serving.native_histogram_combine, serialfunc = serving.native_histogram_serialize,
    deserialfunc = serving.native_histogram_deserialize, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.sketch_merge(public.hll) (
    sfunc = serving.native_hll_gather, stype = internal, sspace = 64, finalfunc = serving.native_hll_settle,
    combinefunc = serving.native_hll_combine, serialfunc = serving.native_hll_serialize,
    deserialfunc = serving.native_hll_deserialize, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.rollup(public.hll) (
    sfunc = serving.native_hll_gather, stype = internal, sspace = 64, finalfunc = serving.native_hll_settle,
    combinefunc = serving.native_hll_combine, serialfunc = serving.native_hll_serialize,
    deserialfunc = serving.native_hll_deserialize, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.hll_merge(public.hll) (
    sfunc = serving.native_hll_gather, stype = internal, sspace = 64, finalfunc = serving.native_hll_settle,
    combinefunc = serving.native_hll_combine, serialfunc = serving.native_hll_serialize,
    deserialfunc = serving.native_hll_deserialize, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.merged_count(public.hll) (
    sfunc = serving.native_hll_gather, stype = internal, sspace = 64, finalfunc = serving.native_hll_count,
    combinefunc = serving.native_hll_combine, serialfunc = serving.native_hll_serialize,
    deserialfunc = serving.native_hll_deserialize, parallel = safe
);
CREATE OR REPLACE AGGREGATE public.merged_percentile(double precision, bigint[]) (
    sfunc = serving.native_percentile_gather, stype = internal, sspace = 160, finalfunc = serving.native_percentile_settle,
    combinefunc = serving.native_percentile_combine, serialfunc = serving.native_percentile_serialize,
    deserialfunc = serving.native_percentile_deserialize, parallel = safe
);

CREATE OR REPLACE FUNCTION public.histogram_add(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_add';
CREATE OR REPLACE FUNCTION public.approx_percentile(fraction double precision, histogram bigint[]) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/braid', 'braid_histogram_percentile';
