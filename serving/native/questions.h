/* What the files that look at questions share. */
#ifndef QUESTIONS_H
#define QUESTIONS_H

#include "braid.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"

#define BUCKET 1 /* the first column of every view: the bucket, or its day */

/* What a view of ours that readers ask shows: the entry of the one merged view in its query, or NULL. */
extern RangeTblEntry *merged_of(RangeTblEntry *entry);

/* An error if a level of a question cuts rows in time where a zone's hours or days begin within one. */
extern void refuse_cut_rows(Query *query, ParamListInfo parameters);

extern void install_zones(void);

#endif
