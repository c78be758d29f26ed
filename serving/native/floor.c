/* The bound below which speed rows are absorbed (sql/20_state.sql), looked up once in a statement instead of once a row. */
#include "braid.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* By the catalogue alone: whoever asks may not be let into the schema, nor need be, to ask a view that calls this. */
static Oid reading_function(void)
{
	Oid function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("read_absorbed_floor"),
								   PointerGetDatum(buildoidvector(NULL, 0)),
								   ObjectIdGetDatum(get_namespace_oid("serving", false)));

	if (!OidIsValid(function))
		elog(ERROR, "serving.read_absorbed_floor() does not exist");
	return function;
}

/* What is known lives as long as the executor's state of the view's condition, and that is one statement with one snapshot. */
PG_FUNCTION_INFO_V1(braid_absorbed_floor);
Datum braid_absorbed_floor(PG_FUNCTION_ARGS)
{
	int64 *known = fcinfo->flinfo->fn_extra;

	if (known == NULL)
	{
		int64 floor = DatumGetInt64(OidFunctionCall0(reading_function()));

		known = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(int64));
		*known = floor;
		fcinfo->flinfo->fn_extra = known;
	}
	PG_RETURN_INT64(*known);
}
