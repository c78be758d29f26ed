/*
 * Histograms: sorted bigint[] of `bin << 48 | count`, as contract/sketches/histogram.py has them.
 *
 * A state keeps the first histogram as it is, since most groups of a merged view have one row. From the second one on it
 * counts in a window of bins around those that it has met; a bin that was not met has -1, because a count may be 0.
 *
 * The forms in SQL give the same bytes where no bin counts 2^48, as bins of events never do: what goes beyond that, they carry
 * into the next bin earlier or later.
 */
#include "braid.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "libpq/pqformat.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"

#define COUNT_BITS 48
#define COUNT_MASK ((INT64CONST(1) << COUNT_BITS) - 1)
#define NO_ENTRY PG_INT64_MAX
#define ZERO_BIN (-321)
#define BINS_PER_OCTAVE 32.0
#define MARGIN_BINS 64

typedef struct Histogram
{
	ArrayType *only; /* the one histogram so far, or null */
	int64 *counts;
	int first_bin;
	int bins;
} Histogram;

static void refuse_overflow(const char *message)
{
	ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("%s", message)));
}

/* The entries of the array, one after the other; a null is none, and takes no place. */
static int64 *entries_of(ArrayType *array, int *count)
{
	bits8 *nulls = ARR_NULLBITMAP(array);
	int items = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (ARR_ELEMTYPE(array) != INT8OID)
		elog(ERROR, "a histogram is a bigint[]");
	*count = items;
	for (int i = 0; nulls && i < items; i++)
		*count -= !(nulls[i / 8] & (1 << (i % 8)));
	return (int64 *) ARR_DATA_PTR(array);
}

/* The window becomes so large that it has the bin, and some around it. */
static void widen(Histogram *state, MemoryContext context, int bin)
{
	int first = bin - MARGIN_BINS, after = bin + MARGIN_BINS;
	int64 *wider;

	if (state->counts)
	{
		first = Min(first, state->first_bin);
		after = Max(after, state->first_bin + state->bins);
	}
	wider = MemoryContextAlloc(context, sizeof(int64) * (after - first));
	memset(wider, 0xff, sizeof(int64) * (after - first));
	if (state->counts)
	{
		memcpy(wider + (state->first_bin - first), state->counts, sizeof(int64) * state->bins);
		pfree(state->counts);
	}
	state->counts = wider;
	state->first_bin = first;
	state->bins = after - first;
}

static void add_count(Histogram *state, MemoryContext context, int bin, int64 more)
{
	int64 *count;

	if (bin < state->first_bin || bin >= state->first_bin + state->bins)
		widen(state, context, bin);
	count = &state->counts[bin - state->first_bin];
	if (pg_add_s64_overflow(Max(*count, 0), more, count))
		refuse_overflow("bigint out of range");
}

static void add_array(Histogram *state, MemoryContext context, ArrayType *array)
{
	int count;
	int64 *entries = entries_of(array, &count);

	for (int i = 0; i < count; i++)
		if (entries[i] != NO_ENTRY)
			add_count(state, context, (int) (entries[i] >> COUNT_BITS), entries[i] & COUNT_MASK);
}

static ArrayType *array_of(Histogram *state)
{
	int met = 0;
	int64 *entry;
	ArrayType *array;
	Size size;

	for (int i = 0; i < state->bins; i++)
		met += state->counts[i] >= 0;
	if (met == 0)
		return construct_empty_array(INT8OID);
	size = ARR_OVERHEAD_NONULLS(1) + sizeof(int64) * met;
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = INT8OID;
	ARR_DIMS(array)[0] = met;
	ARR_LBOUND(array)[0] = 1;
	entry = (int64 *) ARR_DATA_PTR(array);
	for (int i = 0; i < state->bins; i++)
		if (state->counts[i] >= 0 &&
			pg_add_s64_overflow((int64) ((uint64) (int64) (state->first_bin + i) << COUNT_BITS), state->counts[i], entry++))
			refuse_overflow("bigint out of range");
	return array;
}

static void gather(Histogram *state, MemoryContext context, ArrayType *array)
{
	if (state->only == NULL && state->counts == NULL)
	{
		state->only = MemoryContextAlloc(context, VARSIZE(array));
		memcpy(state->only, array, VARSIZE(array));
		return;
	}
	if (state->only)
	{
		ArrayType *first = state->only;

		state->only = NULL;
		add_array(state, context, first);
		pfree(first);
		/* An empty histogram was met, and the next one must not be taken for the first. */
		if (state->counts == NULL)
			widen(state, context, 0);
	}
	add_array(state, context, array);
}

PG_FUNCTION_INFO_V1(braid_histogram_gather);
Datum braid_histogram_gather(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Histogram *state = PG_ARGISNULL(0) ? NULL : (Histogram *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
	{
		if (state == NULL)
			state = MemoryContextAllocZero(context, sizeof(Histogram));
		gather(state, context, PG_GETARG_ARRAYTYPE_P(1));
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_histogram_settle);
Datum braid_histogram_settle(PG_FUNCTION_ARGS)
{
	Histogram *state;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (Histogram *) PG_GETARG_POINTER(0);
	PG_RETURN_ARRAYTYPE_P(state->only ? state->only : array_of(state));
}

PG_FUNCTION_INFO_V1(braid_histogram_combine);
Datum braid_histogram_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Histogram *state = PG_ARGISNULL(0) ? NULL : (Histogram *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
	{
		Histogram *more = (Histogram *) PG_GETARG_POINTER(1);

		if (state == NULL)
			state = MemoryContextAllocZero(context, sizeof(Histogram));
		gather(state, context, more->only ? more->only : array_of(more));
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_histogram_serialize);
Datum braid_histogram_serialize(PG_FUNCTION_ARGS)
{
	Histogram *state = (Histogram *) PG_GETARG_POINTER(0);
	ArrayType *array = state->only ? state->only : array_of(state);
	bytea *bytes = palloc(VARHDRSZ + VARSIZE(array));

	SET_VARSIZE(bytes, VARHDRSZ + VARSIZE(array));
	memcpy(VARDATA(bytes), array, VARSIZE(array));
	PG_RETURN_BYTEA_P(bytes);
}

PG_FUNCTION_INFO_V1(braid_histogram_deserialize);
Datum braid_histogram_deserialize(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	Histogram *state = palloc0(sizeof(Histogram));

	state->only = palloc(VARSIZE_ANY_EXHDR(bytes));
	memcpy(state->only, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_histogram_add);
Datum braid_histogram_add(PG_FUNCTION_ARGS)
{
	Histogram state = {0};

	add_array(&state, CurrentMemoryContext, PG_GETARG_ARRAYTYPE_P(0));
	add_array(&state, CurrentMemoryContext, PG_GETARG_ARRAYTYPE_P(1));
	PG_RETURN_ARRAYTYPE_P(array_of(&state));
}

/*
 * The value at the fraction's rank; false if there is none. As approx_percentile in sql/10_sketches.sql, operation by operation,
 * so that the last bit is the same.
 */
static bool find_percentile(float8 fraction, ArrayType *array, float8 *value)
{
	int count;
	int64 *entries = entries_of(array, &count);
	int64 remaining = 0;
	float8 rank;

	if (!(fraction >= 0 && fraction <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("approx_percentile takes a fraction from 0 to 1, not %s; the 95th percentile is 0.95",
						DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(fraction))))));
	for (int i = 0; i < count; i++)
		if (pg_add_s64_overflow(remaining, entries[i] & COUNT_MASK, &remaining))
			refuse_overflow("bigint out of range");
	rank = ceil(fraction * (float8) remaining);
	if (!FLOAT8_FITS_IN_INT64(rank))
		refuse_overflow("bigint out of range");
	remaining = Max(1, (int64) rank);
	for (int i = 0; i < count; i++)
	{
		remaining -= entries[i] & COUNT_MASK;
		if (remaining <= 0)
		{
			int64 bin = entries[i] >> COUNT_BITS;
			float8 low = pow(2, (float8) bin / BINS_PER_OCTAVE), high = pow(2, (float8) (bin + 1) / BINS_PER_OCTAVE);

			if (isinf(2 * low * high))
				refuse_overflow("value out of range: overflow");
			/* The value with the least worst relative error in a bin (low, high]. */
			*value = bin <= ZERO_BIN ? 0 : 2 * low * high / (low + high);
			return true;
		}
	}
	return false;
}

PG_FUNCTION_INFO_V1(braid_histogram_percentile);
Datum braid_histogram_percentile(PG_FUNCTION_ARGS)
{
	float8 value;

	if (!find_percentile(PG_GETARG_FLOAT8(0), PG_GETARG_ARRAYTYPE_P(1), &value))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(value);
}

/* The state of merged_percentile: a histogram's, and of what fraction the value is asked. */
typedef struct Percentile
{
	Histogram histogram;
	float8 fraction;
} Percentile;

static Percentile *gather_of(Percentile *state, MemoryContext context, float8 fraction, ArrayType *array)
{
	if (state == NULL)
	{
		state = MemoryContextAllocZero(context, sizeof(Percentile));
		state->fraction = fraction;
	}
	if (state->fraction != fraction)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("merged_percentile takes one fraction for all rows of a group, not %s and %s",
						DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(state->fraction))),
						DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(fraction))))));
	gather(&state->histogram, context, array);
	return state;
}

static ArrayType *histogram_of(Percentile *state)
{
	return state->histogram.only ? state->histogram.only : array_of(&state->histogram);
}

PG_FUNCTION_INFO_V1(braid_percentile_gather);
Datum braid_percentile_gather(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Percentile *state = PG_ARGISNULL(0) ? NULL : (Percentile *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1) && !PG_ARGISNULL(2))
		state = gather_of(state, context, PG_GETARG_FLOAT8(1), PG_GETARG_ARRAYTYPE_P(2));
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_percentile_settle);
Datum braid_percentile_settle(PG_FUNCTION_ARGS)
{
	Percentile *state = PG_ARGISNULL(0) ? NULL : (Percentile *) PG_GETARG_POINTER(0);
	float8 value;

	if (state == NULL || !find_percentile(state->fraction, histogram_of(state), &value))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(value);
}

PG_FUNCTION_INFO_V1(braid_percentile_combine);
Datum braid_percentile_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Percentile *state = PG_ARGISNULL(0) ? NULL : (Percentile *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
	{
		Percentile *more = (Percentile *) PG_GETARG_POINTER(1);

		state = gather_of(state, context, more->fraction, histogram_of(more));
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_percentile_serialize);
Datum braid_percentile_serialize(PG_FUNCTION_ARGS)
{
	Percentile *state = (Percentile *) PG_GETARG_POINTER(0);
	ArrayType *array = histogram_of(state);
	bytea *bytes = palloc(VARHDRSZ + sizeof(float8) + VARSIZE(array));

	SET_VARSIZE(bytes, VARHDRSZ + sizeof(float8) + VARSIZE(array));
	memcpy(VARDATA(bytes), &state->fraction, sizeof(float8));
	memcpy(VARDATA(bytes) + sizeof(float8), array, VARSIZE(array));
	PG_RETURN_BYTEA_P(bytes);
}

PG_FUNCTION_INFO_V1(braid_percentile_deserialize);
Datum braid_percentile_deserialize(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	Size size = VARSIZE_ANY_EXHDR(bytes) - sizeof(float8);
	Percentile *state = palloc0(sizeof(Percentile));

	memcpy(&state->fraction, VARDATA_ANY(bytes), sizeof(float8));
	state->histogram.only = palloc(size);
	memcpy(state->histogram.only, VARDATA_ANY(bytes) + sizeof(float8), size);
	PG_RETURN_POINTER(state);
}
