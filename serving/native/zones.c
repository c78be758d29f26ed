/*
 * A row of an hour of UTC is on two days of India, where midnight is at half past. `time_bucket('1 day', bucket, 'Asia/Kolkata')`
 * puts it on one of them, and nothing says that the answer is wrong. So such a question is refused: where the bucket of a view of
 * ours is cut by a zone whose distance from UTC is no multiple of the row's width. It is seen where a question names the view.
 */
#include "questions.h"

#include <time.h>

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#define HALF_A_YEAR_S (183 * 86400)

static bool is_on = true;

/* A level of a question, and what it was given. */
typedef struct Looking
{
	Query *query;
	ParamListInfo parameters;
} Looking;

/* The comment of a merged view says how long its rows are (serving/schema_merged.py). */
static int width_of_rows_s(RangeTblEntry *merged)
{
	char *comment = GetComment(merged->relid, RelationRelationId, 0);
	int width_s;

	return comment && sscanf(comment, "rows of %d s", &width_s) == 1 ? width_s : 0;
}

/* Whether hours and days of the zone begin where rows do, in winter and in summer. */
static bool begins_with_rows(pg_tz *zone, int width_s)
{
	pg_time_t now = (pg_time_t) time(NULL), then = now - HALF_A_YEAR_S;

	return pg_localtime(&now, zone)->tm_gmtoff % width_s == 0 && pg_localtime(&then, zone)->tm_gmtoff % width_s == 0;
}

static void refuse(RangeTblEntry *entry, pg_tz *zone, int width_s)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("rows of %s are of %d minutes of UTC, and hours and days in %s begin within them",
						   get_rel_name(entry->relid), width_s / 60, pg_get_timezone_name(zone)),
					errhint("Ask a view with shorter rows, as site_traffic_local_days('%s') does, or SET timezone = 'UTC'. "
							"SET braid.whole_rows = off asks as it is.",
							pg_get_timezone_name(zone))));
}

/* The entry whose bucket the expression is, or NULL. */
static RangeTblEntry *of_bucket(Node *node, Query *query)
{
	Var *var = (Var *) node;
	RangeTblEntry *entry;

	if (!IsA(node, Var) || var->varlevelsup != 0 || var->varattno != BUCKET || var->vartype != TIMESTAMPTZOID)
		return NULL;
	entry = rt_fetch(var->varno, query->rtable);
	return entry->rtekind == RTE_SUBQUERY && OidIsValid(entry->relid) && merged_of(entry) ? entry : NULL;
}

/* A zone that the question names or is given; NULL of one that is a column, not known yet, or no zone. */
static pg_tz *zone_of(Node *node, ParamListInfo parameters)
{
	Const *name = (Const *) node;
	Param *parameter = (Param *) node;

	if (IsA(node, Const) && name->consttype == TEXTOID && !name->constisnull)
		return pg_tzset(TextDatumGetCString(name->constvalue));
	if (IsA(node, Param) && parameter->paramkind == PARAM_EXTERN && parameters && parameter->paramid <= parameters->numParams)
	{
		ParamExternData given, *known = parameters->paramFetch
											? parameters->paramFetch(parameters, parameter->paramid, true, &given)
											: &parameters->params[parameter->paramid - 1];

		if (known->ptype == TEXTOID && !known->isnull)
			return pg_tzset(TextDatumGetCString(known->value));
	}
	return NULL;
}

static void look_at(FuncExpr *call, Looking *looking)
{
	char *name = get_func_name(call->funcid);
	bool cuts = name && (strcmp(name, "time_bucket") == 0 || strcmp(name, "date_trunc") == 0 || strcmp(name, "date") == 0);
	ListCell *cell;

	if (!cuts)
		return;
	foreach (cell, call->args)
	{
		Node *argument = lfirst(cell);
		FuncExpr *moved = (FuncExpr *) argument;
		RangeTblEntry *entry = of_bucket(argument, looking->query);
		pg_tz *zone = NULL;

		/* date_trunc('day', bucket, zone), time_bucket('1 day', bucket, zone); without a zone they take the session's, or UTC. */
		if (entry && list_length(call->args) > 2)
			zone = zone_of(lthird(call->args), looking->parameters);
		else if (entry && strcmp(name, "time_bucket") != 0)
			zone = session_timezone;
		/* date_trunc('day', bucket AT TIME ZONE zone), (bucket AT TIME ZONE zone)::date */
		else if (IsA(argument, FuncExpr) && list_length(moved->args) == 2 &&
				 strcmp(get_func_name(moved->funcid), "timezone") == 0 && (entry = of_bucket(lsecond(moved->args), looking->query)) != NULL)
			zone = zone_of(linitial(moved->args), looking->parameters);
		if (entry && zone)
		{
			int width_s = width_of_rows_s(merged_of(entry));

			if (width_s > 0 && !begins_with_rows(zone, width_s))
				refuse(entry, zone, width_s);
		}
	}
}

static bool cut_walker(Node *node, Looking *looking)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, FuncExpr))
		look_at((FuncExpr *) node, looking);
	return expression_tree_walker(node, cut_walker, looking);
}

void refuse_cut_rows(Query *query, ParamListInfo parameters)
{
	Looking looking = {query, parameters};

	if (!is_on || query->commandType != CMD_SELECT)
		return;
	cut_walker((Node *) query->targetList, &looking);
	cut_walker((Node *) query->jointree, &looking);
	cut_walker(query->havingQual, &looking);
}

void install_zones(void)
{
	DefineCustomBoolVariable("braid.whole_rows", "Refuses to cut rows where a time zone's hours and days begin within one.", NULL,
							 &is_on, true, PGC_USERSET, 0, NULL, NULL, NULL);
}
