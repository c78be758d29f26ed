/* What the files of the server module share. sql/15_native.sql says which functions there are. */
#ifndef BRAID_H
#define BRAID_H

#include "postgres.h"
#include "fmgr.h"
#include "varatt.h"

/* The memory in which an aggregate's state lives; an error if the function was called by hand. */
extern MemoryContext aggregate_context(FunctionCallInfo fcinfo);

extern void install_questions(void);

#endif
