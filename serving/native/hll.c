/*
 * The union of sketches as contract/sketches/hll.py has them, read where they are: 2,048 registers of 5 bits, no explicit
 * storage. Format: postgresql-hll, storage specification 1.0.0; an entry of a sparse sketch is one big-endian word.
 */
#include "braid.h"

#include <math.h>

#include "port/pg_bswap.h"

#define LOG2M 11
#define REGWIDTH 5
#define REGISTERS (1 << LOG2M)
#define MAX_RANK ((1 << REGWIDTH) - 1)
#define HEADER 3
#define FULL_BYTES (REGISTERS * REGWIDTH / 8)
#define SPARSE_LIMIT (REGISTERS * REGWIDTH / (LOG2M + REGWIDTH))
#define GROUP_BYTES 5 /* eight registers */

enum { EMPTY = 0x11, SPARSE = 0x13, FULL = 0x14 };

/* What is known so far: the one sketch as it came, or else the registers. */
typedef struct Sketch
{
	bytea *only;
	uint8 *registers;
} Sketch;

/* The bytes of a sketch, or an error: nothing is read beyond what the kind has. */
static const uint8 *checked(bytea *sketch, int *size)
{
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(sketch);
	bool is_ours;

	*size = VARSIZE_ANY_EXHDR(sketch);
	is_ours = *size >= HEADER && bytes[1] == ((REGWIDTH - 1) << 5 | LOG2M) && bytes[2] == 0x40 &&
			  ((bytes[0] == EMPTY && *size == HEADER) || (bytes[0] == SPARSE && (*size - HEADER) % 2 == 0) ||
			   (bytes[0] == FULL && *size == HEADER + FULL_BYTES));
	if (!is_ours)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("what merges here are sketches of the type hll(%d, %d, 0, 1)", LOG2M, REGWIDTH),
						errhint("hll_union_agg takes all others.")));
	return bytes;
}

static uint64 group_at(const uint8 *bytes)
{
	return (uint64) bytes[0] << 32 | (uint64) bytes[1] << 24 | (uint64) bytes[2] << 16 | (uint64) bytes[3] << 8 | bytes[4];
}

static void raise_registers(uint8 *registers, bytea *sketch)
{
	int size;
	const uint8 *bytes = checked(sketch, &size);

	if (bytes[0] == SPARSE)
		for (int at = HEADER; at < size; at += 2)
		{
			uint16 entry = bytes[at] << 8 | bytes[at + 1];
			uint8 *rank = &registers[entry >> REGWIDTH];

			*rank = Max(*rank, entry & MAX_RANK);
		}
	else if (bytes[0] == FULL)
		for (int group = 0; group < REGISTERS / 8; group++)
		{
			uint64 packed = group_at(bytes + HEADER + group * GROUP_BYTES);
			uint8 *rank = registers + group * 8;

			for (int i = 0; i < 8; i++)
			{
				uint8 other = packed >> (REGWIDTH * (7 - i)) & MAX_RANK;

				rank[i] = Max(rank[i], other);
			}
		}
}

static bytea *packed(const uint8 *registers)
{
	int filled = 0, size;
	bytea *sketch;
	uint8 *bytes;

	for (int i = 0; i < REGISTERS; i++)
		filled += registers[i] != 0;
	size = HEADER + (filled < SPARSE_LIMIT ? 2 * filled : FULL_BYTES);
	sketch = palloc(VARHDRSZ + size);
	SET_VARSIZE(sketch, VARHDRSZ + size);
	bytes = (uint8 *) VARDATA(sketch);
	bytes[0] = filled == 0 ? EMPTY : filled < SPARSE_LIMIT ? SPARSE : FULL;
	bytes[1] = (REGWIDTH - 1) << 5 | LOG2M;
	bytes[2] = 0x40;
	bytes += HEADER;
	if (filled < SPARSE_LIMIT)
	{
		for (int i = 0; i < REGISTERS; i++)
			if (registers[i])
			{
				uint16 entry = i << REGWIDTH | registers[i];

				*bytes++ = entry >> 8;
				*bytes++ = entry & 0xff;
			}
	}
	else
		for (int group = 0; group < REGISTERS / 8; group++)
		{
			uint64 whole = 0;

			for (int i = 0; i < 8; i++)
				whole = whole << REGWIDTH | registers[group * 8 + i];
			for (int i = GROUP_BYTES - 1; i >= 0; i--)
				*bytes++ = whole >> (8 * i) & 0xff;
		}
	return sketch;
}

static Sketch *unite(Sketch *state, MemoryContext context, bytea *sketch)
{
	if (state == NULL)
	{
		int size;

		checked(sketch, &size);
		state = MemoryContextAllocZero(context, sizeof(Sketch));
		state->only = MemoryContextAlloc(context, VARSIZE_ANY(sketch));
		memcpy(state->only, sketch, VARSIZE_ANY(sketch));
		return state;
	}
	if (state->only)
	{
		state->registers = MemoryContextAllocZero(context, REGISTERS);
		raise_registers(state->registers, state->only);
		pfree(state->only);
		state->only = NULL;
	}
	raise_registers(state->registers, sketch);
	return state;
}

static bytea *sketch_of(Sketch *state) { return state->only ? state->only : packed(state->registers); }

PG_FUNCTION_INFO_V1(braid_hll_gather);
Datum braid_hll_gather(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Sketch *state = PG_ARGISNULL(0) ? NULL : (Sketch *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
		state = unite(state, context, PG_GETARG_BYTEA_PP(1));
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_hll_settle);
Datum braid_hll_settle(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(sketch_of((Sketch *) PG_GETARG_POINTER(0)));
}

PG_FUNCTION_INFO_V1(braid_hll_count);
Datum braid_hll_count(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	/* As public.distinct_count rounds. */
	PG_RETURN_INT64((int64) rint(braid_cardinality(fcinfo, sketch_of((Sketch *) PG_GETARG_POINTER(0)))));
}

PG_FUNCTION_INFO_V1(braid_hll_combine);
Datum braid_hll_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Sketch *state = PG_ARGISNULL(0) ? NULL : (Sketch *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
		state = unite(state, context, sketch_of((Sketch *) PG_GETARG_POINTER(1)));
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(braid_hll_serialize);
Datum braid_hll_serialize(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(sketch_of((Sketch *) PG_GETARG_POINTER(0)));
}

PG_FUNCTION_INFO_V1(braid_hll_deserialize);
Datum braid_hll_deserialize(PG_FUNCTION_ARGS)
{
	Sketch *state = palloc0(sizeof(Sketch));

	state->only = PG_GETARG_BYTEA_P_COPY(0);
	PG_RETURN_POINTER(state);
}
