/* Braid's module for PostgreSQL: what SQL alone does too slowly. Everything in it has a form in SQL with the same answers. */
#include "braid.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void _PG_init(void) { install_questions(); }

MemoryContext aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "this function is part of an aggregate");
	return context;
}
