/* Braid's module for PostgreSQL: what SQL alone does too slowly. Everything in it has a form in SQL with the same answers. */
#include "braid.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/syscache.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void _PG_init(void)
{
	install_questions();
	install_limits();
}

MemoryContext aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "this function is part of an aggregate");
	return context;
}

float8 braid_cardinality(FunctionCallInfo fcinfo, bytea *sketch)
{
	FmgrInfo *estimate = fcinfo->flinfo->fn_extra;

	if (estimate == NULL)
	{
		Oid schema = get_namespace_oid("public", false);
		Oid hll = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("hll"), ObjectIdGetDatum(schema));
		List *name = list_make2(makeString("public"), makeString("hll_cardinality"));

		estimate = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(LookupFuncName(name, 1, &hll, false), estimate, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = estimate;
	}
	return DatumGetFloat8(FunctionCall1(estimate, PointerGetDatum(sketch)));
}
