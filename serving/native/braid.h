/* What the files of the server module share. sql/15_native.sql says which functions there are. */
#ifndef BRAID_H
#define BRAID_H

#include "postgres.h"
#include "fmgr.h"
#include "varatt.h"

/* The memory in which an aggregate's state lives; an error if the function was called by hand. */
extern MemoryContext aggregate_context(FunctionCallInfo fcinfo);

/*
 * How many values a sketch has: the extension's own estimate, looked up once a call site. Its library exports hll_cardinality, and
 * of two symbols of one name the first that was loaded is called: hence the prefix.
 */
extern float8 braid_cardinality(FunctionCallInfo fcinfo, bytea *sketch);

extern void install_questions(void);
extern void install_limits(void);

#endif
