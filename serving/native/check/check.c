/*
 * The merges of the module without a server, under the sanitizers: random sketches against a plain sum of the same. Memory comes
 * from malloc here, one block a piece, so a byte beyond any of it is seen, as it would not be within a server's own blocks.
 */
#include "../braid.h"

#include <setjmp.h>

#include "catalog/pg_type.h"
#include "utils/array.h"

#undef fprintf /* the server has its own */
#define BINS 1400
#define LOWEST_BIN (-400)
#define ROUNDS 1000

extern Datum braid_histogram_gather(PG_FUNCTION_ARGS), braid_histogram_settle(PG_FUNCTION_ARGS);
extern Datum braid_histogram_combine(PG_FUNCTION_ARGS), braid_histogram_serialize(PG_FUNCTION_ARGS);
extern Datum braid_histogram_deserialize(PG_FUNCTION_ARGS), braid_histogram_add(PG_FUNCTION_ARGS);
extern Datum braid_histogram_percentile(PG_FUNCTION_ARGS);
extern Datum braid_percentile_gather(PG_FUNCTION_ARGS), braid_percentile_settle(PG_FUNCTION_ARGS);
extern Datum braid_percentile_combine(PG_FUNCTION_ARGS), braid_percentile_serialize(PG_FUNCTION_ARGS);
extern Datum braid_percentile_deserialize(PG_FUNCTION_ARGS), braid_hll_count(PG_FUNCTION_ARGS);
extern Datum braid_hll_gather(PG_FUNCTION_ARGS), braid_hll_settle(PG_FUNCTION_ARGS), braid_hll_combine(PG_FUNCTION_ARGS);
extern Datum braid_hll_serialize(PG_FUNCTION_ARGS), braid_hll_deserialize(PG_FUNCTION_ARGS);

/* ---- What the module asks of the server. */
MemoryContext CurrentMemoryContext = NULL;
static jmp_buf refused;

void *MemoryContextAlloc(MemoryContext context, Size size) { return malloc(size); }
void *MemoryContextAllocZero(MemoryContext context, Size size) { return calloc(1, size); }
void *palloc(Size size) { return malloc(size); }
void *palloc0(Size size) { return calloc(1, size); }
void pfree(void *pointer) { free(pointer); }
MemoryContext aggregate_context(FunctionCallInfo fcinfo) { return NULL; }
struct varlena *pg_detoast_datum(struct varlena *datum) { return datum; }
struct varlena *pg_detoast_datum_packed(struct varlena *datum) { return datum; }
struct varlena *pg_detoast_datum_copy(struct varlena *datum)
{
	return memcpy(malloc(VARSIZE_ANY(datum)), datum, VARSIZE_ANY(datum));
}
int ArrayGetNItems(int dimensions, const int *sizes) { return dimensions ? sizes[0] : 0; }
bool errstart(int level, const char *domain) { return true; }
bool errstart_cold(int level, const char *domain) { return true; }
void errfinish(const char *file, int line, const char *function) { longjmp(refused, 1); }
int errcode(int code) { return 0; }
int errmsg(const char *format, ...) { return 0; }
int errmsg_internal(const char *format, ...) { return 0; }
int errhint(const char *format, ...) { return 0; }
float8 braid_cardinality(FunctionCallInfo fcinfo, bytea *sketch) { return VARSIZE_ANY_EXHDR(sketch) + 0.4; }
Datum float8out(PG_FUNCTION_ARGS) { return CStringGetDatum("a number"); }
Datum DirectFunctionCall1Coll(PGFunction function, Oid collation, Datum argument) { return argument; }

/* ---- Calls, and inputs. */
static Datum call_of_three(PGFunction function, Datum first, bool first_is_null, Datum second, Datum third)
{
	LOCAL_FCINFO(info, 3);

	memset(info, 0, SizeForFunctionCallInfo(3));
	info->nargs = 3;
	info->args[0].value = first;
	info->args[0].isnull = first_is_null;
	info->args[1].value = second;
	info->args[2].value = third;
	return function(info);
}

static Datum call(PGFunction function, Datum first, bool first_is_null, Datum second)
{
	return call_of_three(function, first, first_is_null, second, 0);
}

static ArrayType *array(const int64 *entries, int count)
{
	Size size = ARR_OVERHEAD_NONULLS(1) + sizeof(int64) * count;
	ArrayType *made = calloc(1, size);

	SET_VARSIZE(made, size);
	made->ndim = 1;
	made->elemtype = INT8OID;
	ARR_DIMS(made)[0] = count;
	ARR_LBOUND(made)[0] = 1;
	memcpy(ARR_DATA_PTR(made), entries, sizeof(int64) * count);
	return made;
}

ArrayType *construct_empty_array(Oid type)
{
	ArrayType *made = calloc(1, sizeof(ArrayType));

	SET_VARSIZE(made, sizeof(ArrayType));
	made->elemtype = type;
	return made;
}

static bytea *bytes_of(const uint8 *bytes, int count)
{
	bytea *made = malloc(VARHDRSZ + count);

	SET_VARSIZE(made, VARHDRSZ + count);
	memcpy(VARDATA(made), bytes, count);
	return made;
}

static void require(bool held, const char *what)
{
	if (!held)
	{
		fprintf(stderr, "the module is wrong: %s\n", what);
		exit(1);
	}
}

/* ---- Histograms. */
static ArrayType *random_histogram(int64 *sums)
{
	int64 entries[BINS];
	int count = 0, width = rand() % 3 ? 1 + rand() % (rand() % 2 ? 60 : 9) : 1 + rand() % BINS, first = rand() % ((rand() % 2 ? BINS : Min(BINS, 80 + width)) - width + 1);

	for (int bin = first; bin < first + width; bin++)
		if (rand() % 3)
		{
			int64 number = 1 + rand() % 1000;

			entries[count++] = (int64) ((uint64) (int64) (LOWEST_BIN + bin) << 48) + number;
			sums[bin] += number;
		}
	return count ? array(entries, count) : construct_empty_array(INT8OID);
}

static void require_sums(ArrayType *found, const int64 *sums, const char *what)
{
	int count = ArrayGetNItems(ARR_NDIM(found), ARR_DIMS(found)), at = 0;
	int64 *entries = (int64 *) ARR_DATA_PTR(found);

	for (int bin = 0; bin < BINS; bin++)
		if (sums[bin])
		{
			require(at < count && entries[at] == (int64) ((uint64) (int64) (LOWEST_BIN + bin) << 48) + sums[bin], what);
			at++;
		}
	require(at == count, what);
}

static void check_histograms(void)
{
	int64 sums[BINS] = {0}, both[BINS] = {0};
	int rows = 1 + rand() % 6;
	Datum state = 0, other = 0;
	ArrayType *one, *two;

	for (int row = 0; row < rows; row++)
		state = call(braid_histogram_gather, state, row == 0, PointerGetDatum(random_histogram(sums)));
	require_sums(DatumGetArrayTypeP(call(braid_histogram_settle, state, false, 0)), sums, "a merge of histograms");
	other = call(braid_histogram_deserialize, call(braid_histogram_serialize, state, false, 0), false, 0);
	other = call(braid_histogram_combine, other, false, state);
	for (int bin = 0; bin < BINS; bin++)
		sums[bin] *= 2;
	require_sums(DatumGetArrayTypeP(call(braid_histogram_settle, other, false, 0)), sums, "histograms of two workers");
	one = random_histogram(both);
	two = random_histogram(both);
	require_sums(DatumGetArrayTypeP(call(braid_histogram_add, PointerGetDatum(one), false, PointerGetDatum(two))), both,
				 "histogram_add");
	for (int tenth = 0; tenth <= 10; tenth++)
		call(braid_histogram_percentile, Float8GetDatum(tenth / 10.0), false, PointerGetDatum(one));
}

/* A percentile of several histograms is that of their sum, on the way of two workers too. */
static void check_percentiles(void)
{
	int64 sums[BINS] = {0};
	int rows = 1 + rand() % 4;
	Datum fraction = Float8GetDatum(rand() % 11 / 10.0), state = 0, whole = 0, other;

	for (int row = 0; row < rows; row++)
	{
		Datum next = PointerGetDatum(random_histogram(sums));

		state = call_of_three(braid_percentile_gather, state, row == 0, fraction, next);
		whole = call(braid_histogram_gather, whole, row == 0, next);
	}
	whole = call(braid_histogram_settle, whole, false, 0);
	other = call(braid_percentile_deserialize, call(braid_percentile_serialize, state, false, 0), false, 0);
	other = call(braid_percentile_combine, other, false, state);
	require(call(braid_histogram_percentile, fraction, false, whole) == call(braid_percentile_settle, state, false, 0),
			"a percentile of several histograms");
	call(braid_percentile_settle, other, false, 0);
}

/* ---- Sketches: 2,048 registers of 5 bits, bit by bit. */
static bytea *sketch_of(const uint8 *ranks)
{
	uint8 bytes[3 + 1280] = {0x11, 0x8b, 0x40};
	int filled = 0, size = 3;

	for (int i = 0; i < 2048; i++)
		filled += ranks[i] > 0;
	if (filled == 0)
		return bytes_of(bytes, 3);
	bytes[0] = filled < 640 ? 0x13 : 0x14;
	for (int i = 0; i < 2048; i++)
	{
		int first = filled < 640 ? (size - 3) * 8 : i * 5, bits = filled < 640 ? 16 : 5;
		int value = filled < 640 ? i << 5 | ranks[i] : ranks[i];

		if (filled < 640 && !ranks[i])
			continue;
		for (int bit = 0; bit < bits; bit++)
			if (value >> (bits - 1 - bit) & 1)
				bytes[3 + (first + bit) / 8] |= 0x80 >> (first + bit) % 8;
		size += filled < 640 ? 2 : 0;
	}
	return bytes_of(bytes, filled < 640 ? size : 3 + 1280);
}

static bytea *random_sketch(uint8 *ranks)
{
	static const int sizes[] = {0, 1, 3, 12, 60, 639, 640, 641, 1500, 2048};
	uint8 own[2048] = {0};
	int filled = sizes[rand() % lengthof(sizes)];

	while (filled > 0)
	{
		int i = rand() % 2048;

		filled -= own[i] == 0;
		own[i] = 1 + rand() % 31;
	}
	for (int i = 0; i < 2048; i++)
		ranks[i] = Max(ranks[i], own[i]);
	return sketch_of(own);
}

static void require_ranks(Datum found, const uint8 *ranks, const char *what)
{
	bytea *expected = sketch_of(ranks), *sketch = DatumGetByteaPP(found);

	require(VARSIZE_ANY_EXHDR(sketch) == VARSIZE_ANY_EXHDR(expected) &&
				memcmp(VARDATA_ANY(sketch), VARDATA_ANY(expected), VARSIZE_ANY_EXHDR(expected)) == 0,
			what);
}

static void check_sketches(void)
{
	uint8 ranks[2048] = {0};
	int rows = 1 + rand() % 4;
	Datum state = 0, other;

	for (int row = 0; row < rows; row++)
		state = call(braid_hll_gather, state, row == 0, PointerGetDatum(random_sketch(ranks)));
	require_ranks(call(braid_hll_settle, state, false, 0), ranks, "a merge of sketches");
	require(DatumGetInt64(call(braid_hll_count, state, false, 0)) == VARSIZE_ANY_EXHDR(sketch_of(ranks)), "a merged count");
	other = call(braid_hll_deserialize, call(braid_hll_serialize, state, false, 0), false, 0);
	other = call(braid_hll_gather, other, false, PointerGetDatum(random_sketch(ranks)));
	other = call(braid_hll_combine, other, false, state);
	require_ranks(call(braid_hll_settle, other, false, 0), ranks, "sketches of two workers");
}

/* Bytes that are no sketch are refused, and none beyond them is read. */
static void check_refusals(void)
{
	uint8 ranks[2048] = {0};
	bytea *sketch = random_sketch(ranks);
	int size = VARSIZE_ANY_EXHDR(sketch), cut = rand() % size;
	uint8 bytes[3 + 1280];

	memcpy(bytes, VARDATA_ANY(sketch), size);
	if (rand() % 2)
		bytes[rand() % 3] ^= 1 << rand() % 8;
	if (setjmp(refused) == 0)
	{
		Datum state = call(braid_hll_gather, 0, true, PointerGetDatum(bytes_of(bytes, cut)));

		call(braid_hll_gather, state, false, PointerGetDatum(bytes_of(bytes, size)));
	}
}

int main(void)
{
	for (int round = 0; round < ROUNDS; round++)
	{
		srand(round);
		check_histograms();
		check_percentiles();
		check_sketches();
		check_refusals();
	}
	return 0;
}
