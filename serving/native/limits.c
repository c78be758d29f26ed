/*
 * What role reader may set for itself has a bound. PostgreSQL lets anybody SET these: no limit of time for a statement, or all of
 * the machine's memory for its sorts. The ranges are those of the session, so what is refused says which are allowed.
 */
#include "braid.h"

#include "access/parallel.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#define READER "reader"
#define LONGEST_STATEMENT_MS 600000
#define MOST_WORK_MEM_KB 65536
#define MOST_HASH_MEM 2.0

static void bound_int(const char *name, int min, int max)
{
	struct config_int *setting = (struct config_int *) find_option(name, false, false, ERROR);
	bool is_beyond = *setting->variable < min || *setting->variable > max;

	setting->min = min;
	setting->max = max;
	/* What a connection brings along was set before. RESET goes back to it. */
	if (setting->reset_val < min || setting->reset_val > max)
		setting->reset_val = max;
	if (is_beyond)
		SetConfigOption(name, psprintf("%d", max), PGC_USERSET, PGC_S_SESSION);
}

static void bound_real(const char *name, double max)
{
	struct config_real *setting = (struct config_real *) find_option(name, false, false, ERROR);
	bool is_beyond = *setting->variable > max;

	setting->max = max;
	if (setting->reset_val > max)
		setting->reset_val = max;
	if (is_beyond)
		SetConfigOption(name, psprintf("%g", max), PGC_USERSET, PGC_S_SESSION);
}

void install_limits(void)
{
	const char *role = OidIsValid(GetSessionUserId()) ? GetUserNameFromId(GetSessionUserId(), true) : NULL;

	/* A parallel worker has its leader's settings. */
	if (role == NULL || strcmp(role, READER) != 0 || IsParallelWorker())
		return;
	bound_int("statement_timeout", 1, LONGEST_STATEMENT_MS);
	bound_int("work_mem", 64, MOST_WORK_MEM_KB);
	bound_real("hash_mem_multiplier", MOST_HASH_MEM);
}
