/*
 * Questions that a view answers from fewer rows than it has, with the same result. A view in SQL cannot know what it is asked.
 *
 * 1. A question that asks a view only for sums of all of its rows is answered from the view's rows of days.
 *
 * `SELECT site, total(views) FROM site_traffic GROUP BY site` reads a row a minute of all of history, where its rows of days are
 * one a day, with the same columns. Sums and sketches of either are the same to the byte, since measures merge in any
 * grouping. So where nothing else is asked of the view (no bucket, no count of rows, no measure outside of such a sum) its
 * rows of days take its place.
 *
 * Readers ask views of plain numbers (site_traffic) or of sketches (site_traffic_sketches); both show columns of
 * serving.site_traffic_merged. It is that one whose rows are exchanged, and only where no more is used than columns that come
 * from it as they are: the number of visitors of a row is made of its sketch, and its sum over minutes is not that over days.
 *
 * 2. A question for the first or last few rows by bucket needs none beyond the bucket in which the batch rows alone are so many:
 * each of them is a row of the view. `SELECT * FROM page_traffic ORDER BY bucket DESC LIMIT 5` (or by day) gets
 * `bucket >= (SELECT bucket FROM serving.page_traffic_batch ORDER BY bucket DESC LIMIT 1 OFFSET 4)` in addition, with the
 * conditions of the question, and both halves are read by an index instead of merged from their beginning.
 *
 * The planner's hook sees the query after views were expanded, whatever way it came: prepared, in a function, in a view.
 */
#include "questions.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define OWNER "braid_owner"
#define SHOWN "public"
#define INTERNAL "serving"
#define MERGED "_merged"
#define MERGED_DAYS "_by_day" MERGED
#define SKETCHES "_sketches"
#define BATCH "_batch"
#define MOST_ROWS 100000

static planner_hook_type next_planner = NULL;
static bool is_on = true;

/* Whether an expression uses more of the view than its keys, and what else it may: sums of what `shown` has as it is stored. */
typedef struct Uses
{
	int varno;
	Query *shown, *merged;
	bool allows_sums;
	bool allows_bucket;
	bool more;
} Uses;

/* sum(bigint) of PostgreSQL and what merges of ours: their result does not depend on how the rows were merged before. */
static bool is_sum(Oid function)
{
	static const char *const sums[] = {"sum", "total", "sketch_merge", "merged_count", "merged_percentile",
									   "rollup", "hll_merge", "hll_union_agg"};
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool found = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
		const char *name = NameStr(proc->proname);

		found = proc->pronamespace ==
				(strcmp(name, "sum") == 0 ? PG_CATALOG_NAMESPACE : get_namespace_oid(SHOWN, true));
		if (found)
		{
			found = false;
			for (int i = 0; i < lengthof(sums) && !found; i++)
				found = strcmp(name, sums[i]) == 0;
		}
		ReleaseSysCache(tuple);
	}
	return found;
}

/* What a column is in the merged view, or NULL where the view does not show it as it is stored, but works it out. */
static TargetEntry *stored_as(Uses *uses, AttrNumber column)
{
	Var *shown = (Var *) list_nth_node(TargetEntry, uses->shown->targetList, column - 1)->expr;

	/* A row as a whole, which somebody's view may show, is no column. */
	return IsA(shown, Var) && shown->varattno > 0 ? list_nth_node(TargetEntry, uses->merged->targetList, shown->varattno - 1)
												  : NULL;
}

/* The merged view groups by its keys; whatever else there is, texts too, is the bucket, a measure or a part of one. */
static bool is_key(Uses *uses, AttrNumber column)
{
	TargetEntry *stored = stored_as(uses, column);

	return stored != NULL && stored->ressortgroupref != 0;
}

/* Whether it is merged by what is a sum itself: a sum of least values depends on the rows that there are. */
static bool is_merged_by_sum(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
		return is_sum(((Aggref *) node)->aggfnoid);
	return expression_tree_walker(node, is_merged_by_sum, context);
}

static bool is_additive(Uses *uses, AttrNumber column)
{
	TargetEntry *stored = stored_as(uses, column);

	return stored != NULL && is_merged_by_sum((Node *) stored->expr, NULL);
}

/*
 * A sum of a stored measure. Of two arguments the first is the fraction of a percentile, the same for all rows. What the rows are
 * ordered by, where it is no argument itself, is in the list after them.
 */
static bool is_sum_of_stored(Aggref *aggregate, Uses *uses)
{
	int arguments = list_length(aggregate->args);
	TargetEntry *last = aggregate->args ? llast(aggregate->args) : NULL;
	Var *var = last && IsA(last->expr, Var) ? (Var *) last->expr : NULL;

	if (arguments != list_length(aggregate->aggargtypes) || arguments > 2 ||
		(arguments == 2 && contain_var_clause((Node *) linitial_node(TargetEntry, aggregate->args)->expr)))
		return false;
	return aggregate->agglevelsup == 0 && var != NULL && var->varlevelsup == 0 && var->varno == uses->varno &&
		   var->varattno > BUCKET && !aggregate->aggdistinct && is_sum(aggregate->aggfnoid) &&
		   is_additive(uses, var->varattno);
}

static bool uses_walker(Node *node, Uses *uses)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Aggref *aggregate = (Aggref *) node;

		if (!uses->allows_sums || !is_sum_of_stored(aggregate, uses))
			uses->more = true;
		return uses->more || uses_walker((Node *) aggregate->aggfilter, uses);
	}
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varlevelsup != 0 || var->varno != uses->varno || var->varattno < BUCKET ||
			!(var->varattno == BUCKET ? uses->allows_bucket : is_key(uses, var->varattno)))
			uses->more = true;
		return uses->more;
	}
	if (IsA(node, Query) || IsA(node, SubLink) || IsA(node, GroupingFunc))
	{
		uses->more = true;
		return true;
	}
	return expression_tree_walker(node, uses_walker, uses);
}

/* Whether it is a view that the serving layer has made: of its owner, and in its schema. */
static bool is_ours(Oid view, const char *schema)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(view));
	Oid owner = get_role_oid(OWNER, true);
	bool ours = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class found = (Form_pg_class) GETSTRUCT(tuple);

		ours = OidIsValid(owner) && found->relowner == owner && found->relkind == RELKIND_VIEW &&
			   found->relnamespace == get_namespace_oid(schema, true);
		ReleaseSysCache(tuple);
	}
	return ours;
}

/* The view of that name that the serving layer has made, or InvalidOid. */
static Oid view_of_ours(const char *name, const char *schema)
{
	Oid view = get_relname_relid(name, get_namespace_oid(schema, true));

	return OidIsValid(view) && is_ours(view, schema) ? view : InvalidOid;
}

static bool have_the_same_columns(TupleDesc one, TupleDesc other)
{
	if (one->natts != other->natts)
		return false;
	for (int i = 0; i < one->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(one, i)->attname), NameStr(TupleDescAttr(other, i)->attname)) != 0 ||
			TupleDescAttr(one, i)->atttypid != TupleDescAttr(other, i)->atttypid)
			return false;
	return true;
}

/* Whoever asks may not be let into the schema, as by a view of somebody else's: then the text below would be refused. */
static bool may_name(const char *name)
{
	Oid schema = get_namespace_oid(name, true);

	return OidIsValid(schema) && object_aclcheck(NamespaceRelationId, schema, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
}

RangeTblEntry *merged_of(RangeTblEntry *entry)
{
	FromExpr *from = entry->subquery->jointree;
	RangeTblEntry *merged;
	char *shown = get_rel_name(entry->relid);
	size_t length = strlen(shown);

	if (!is_ours(entry->relid, SHOWN) || entry->subquery->hasAggs || list_length(from->fromlist) != 1 || from->quals ||
		!IsA(linitial(from->fromlist), RangeTblRef))
		return NULL;
	merged = rt_fetch(linitial_node(RangeTblRef, from->fromlist)->rtindex, entry->subquery->rtable);
	if (merged->rtekind != RTE_SUBQUERY || !OidIsValid(merged->relid) || !is_ours(merged->relid, INTERNAL))
		return NULL;
	if (length > strlen(SKETCHES) && strcmp(shown + length - strlen(SKETCHES), SKETCHES) == 0)
		shown = pnstrdup(shown, length - strlen(SKETCHES));
	return strcmp(get_rel_name(merged->relid), psprintf("%s" MERGED, shown)) == 0 ? merged : NULL;
}

/* The merged view's rows of days, locked, or InvalidOid: its name says so, and both are of the serving layer. */
static Oid days_of(Oid merged)
{
	char *name = get_rel_name(merged);
	Relation fine, coarse;
	bool alike;
	Oid days;

	if (!may_name(INTERNAL) || strlen(name) + strlen(MERGED_DAYS) - strlen(MERGED) >= NAMEDATALEN)
		return InvalidOid;
	days = view_of_ours(psprintf("%s" MERGED_DAYS, pnstrdup(name, strlen(name) - strlen(MERGED))), INTERNAL);
	if (!OidIsValid(days))
		return InvalidOid;
	/* It may be taken away this very moment. */
	coarse = try_relation_open(days, AccessShareLock);
	if (coarse == NULL)
		return InvalidOid;
	fine = relation_open(merged, NoLock);
	alike = have_the_same_columns(RelationGetDescr(fine), RelationGetDescr(coarse));
	relation_close(fine, NoLock);
	relation_close(coarse, NoLock);
	return alike ? days : InvalidOid;
}

/* A query in text, as the rewriter makes it. */
static Query *analyzed(const char *text)
{
	return linitial_node(Query, pg_analyze_and_rewrite_fixedparams(linitial(pg_parse_query(text)), text, NULL, 0, NULL));
}

/* The same of one view, with its owner's rights: whoever may read a view may read this of it. */
static Query *rewritten(const char *text)
{
	Query *query = analyzed(text);

	linitial_node(RTEPermissionInfo, query->rteperminfos)->checkAsUser = get_role_oid(OWNER, false);
	return query;
}

/* Nothing of the expression but keys, sums and, if it may, the bucket is of the view; and it is the same for equal rows. */
static bool is_known(Node *expression, Uses *uses)
{
	if (contain_volatile_functions(expression))
		return false;
	uses_walker(expression, uses);
	return !uses->more;
}

/* Takes the rows of days where only sums are asked for. */
static void choose_days(Query *query, RangeTblEntry *entry, RangeTblEntry *merged, int varno)
{
	Uses uses = {.varno = varno, .shown = entry->subquery, .merged = merged->subquery, .allows_sums = true};
	Oid days;

	if (!(query->hasAggs || query->groupClause || (query->distinctClause && !query->hasWindowFuncs)) ||
		!is_known((Node *) query->targetList, &uses) || !is_known(query->jointree->quals, &uses) ||
		!is_known(query->havingQual, &uses))
		return;
	days = days_of(merged->relid);
	if (OidIsValid(days))
		merged->subquery = rewritten(psprintf("SELECT * FROM %s", quote_qualified_identifier(INTERNAL, get_rel_name(days))));
}

/* A number of LIMIT or OFFSET, or -1 where it is not plain. */
static int64 plain_number(Node *expression)
{
	Const *number = (Const *) eval_const_expressions(NULL, copyObject(expression));

	return IsA(number, Const) && !number->constisnull ? DatumGetInt64(number->constvalue) : -1;
}

/* How many rows LIMIT and OFFSET ask for together, or -1 where that is not plain or much. */
static int64 rows_asked(Query *query)
{
	int64 limit = query->limitCount ? plain_number(query->limitCount) : -1;
	int64 offset = query->limitOffset ? plain_number(query->limitOffset) : 0;

	return limit < 0 || limit > MOST_ROWS || offset < 0 || offset > MOST_ROWS ? -1 : limit + offset;
}

/* A query that answers with one value, as that value. */
static Expr *value_of(Query *query)
{
	SubLink *asked = makeNode(SubLink);

	asked->subLinkType = EXPR_SUBLINK;
	asked->subselect = (Node *) query;
	asked->location = -1;
	return (Expr *) asked;
}

/* A condition on the bucket. */
static Node *compared(Var *bucket, Oid operator_family, StrategyNumber strategy, Expr *with)
{
	Oid operator = get_opfamily_member(operator_family, bucket->vartype, bucket->vartype, strategy);

	return (Node *) make_opclause(operator, BOOLOID, false, copyObject((Expr *) bucket), with, InvalidOid, InvalidOid);
}

/* Bounds the bucket where the rows that are first or last by it are asked for. */
static void bound_bucket(Query *query, RangeTblEntry *entry, RangeTblEntry *merged, int varno)
{
	Uses uses = {.varno = varno, .shown = entry->subquery, .merged = merged->subquery, .allows_bucket = true};
	TypeCacheEntry *type;
	int64 rows = rows_asked(query);
	char *name, *batch;
	const char *column;
	Oid batch_view;
	SortGroupClause *first;
	Var *bucket;
	bool newest;
	Query *bound;
	CoalesceExpr *known;
	Expr *end;
	Node *quals;

	if (rows < 1 || query->groupClause || query->distinctClause || query->hasWindowFuncs ||
		query->hasTargetSRFs || query->sortClause == NIL ||
		!is_known(query->jointree->quals, &uses) || contain_volatile_functions((Node *) query->targetList))
		return;
	first = linitial_node(SortGroupClause, query->sortClause);
	bucket = (Var *) get_sortgroupclause_expr(first, query->targetList);
	if (!IsA(bucket, Var) || bucket->varno != varno || bucket->varlevelsup != 0 || bucket->varattno != BUCKET ||
		(bucket->vartype != TIMESTAMPTZOID && bucket->vartype != DATEOID))
		return;
	type = lookup_type_cache(bucket->vartype, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR | TYPECACHE_BTREE_OPFAMILY);
	if (first->sortop != type->lt_opr && first->sortop != type->gt_opr)
		return;
	/* Its columns are the bucket, or the day, and the keys, in the view's order. */
	name = get_rel_name(merged->relid);
	batch = psprintf("%s" BATCH, pnstrdup(name, strlen(name) - strlen(MERGED)));
	batch_view = may_name(INTERNAL) ? view_of_ours(batch, INTERNAL) : InvalidOid;
	if (!OidIsValid(batch_view) || get_atttype(batch_view, BUCKET) != bucket->vartype)
		return;
	newest = first->sortop == type->gt_opr;
	column = quote_identifier(get_attname(batch_view, BUCKET, false));
	bound = rewritten(psprintf("SELECT %s FROM %s ORDER BY %s %s LIMIT 1 OFFSET " INT64_FORMAT, column,
							   quote_qualified_identifier(INTERNAL, batch), column, newest ? "DESC" : "ASC", rows - 1));
	quals = copyObject(query->jointree->quals);
	ChangeVarNodes(quals, varno, 1, 0);
	bound->jointree->quals = quals;
	known = makeNode(CoalesceExpr);
	known->coalescetype = bucket->vartype;
	known->args = list_make2(value_of(bound), bucket->vartype == DATEOID
			   ? makeConst(DATEOID, -1, InvalidOid, sizeof(DateADT), DateADTGetDatum(newest ? DATEVAL_NOBEGIN : DATEVAL_NOEND),
						   false, true)
			   : makeConst(TIMESTAMPTZOID, -1, InvalidOid, sizeof(TimestampTz),
						   TimestampTzGetDatum(newest ? DT_NOBEGIN : DT_NOEND), false, FLOAT8PASSBYVAL));
	known->location = -1;
	query->jointree->quals = make_and_qual(
		query->jointree->quals,
		compared(bucket, type->btree_opf, newest ? BTGreaterEqualStrategyNumber : BTLessEqualStrategyNumber, (Expr *) known));
	/*
	 * True of every row. Of one bound that it does not know yet the planner expects a third of the table, and reads all of
	 * it; of two a two-hundredth, and takes the index.
	 */
	end = value_of(analyzed(psprintf("SELECT '%sinfinity'::%s", newest ? "" : "-", format_type_be(bucket->vartype))));
	query->jointree->quals = make_and_qual(
		query->jointree->quals,
		compared(bucket, type->btree_opf, newest ? BTLessEqualStrategyNumber : BTGreaterEqualStrategyNumber, end));
	query->hasSubLinks = true;
}

/* Looks at this level of a question, if it asks one view of ours and nothing else. */
static void choose(Query *query)
{
	RangeTblRef *only = list_length(query->jointree->fromlist) == 1 ? linitial(query->jointree->fromlist) : NULL;
	RangeTblEntry *entry, *merged;

	if (query->commandType != CMD_SELECT || query->hasSubLinks || query->rowMarks || query->setOperations || only == NULL ||
		!IsA(only, RangeTblRef))
		return;
	entry = rt_fetch(only->rtindex, query->rtable);
	if (entry->rtekind != RTE_SUBQUERY || !OidIsValid(entry->relid) || entry->lateral || entry->tablesample)
		return;
	merged = merged_of(entry);
	if (merged == NULL)
		return;
	choose_days(query, entry, merged, only->rtindex);
	bound_bucket(query, entry, merged, only->rtindex);
}

static bool choose_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		/* From the inside out: what is put in here is not looked at. */
		query_tree_walker((Query *) node, choose_walker, context, 0);
		refuse_cut_rows((Query *) node, (ParamListInfo) context);
		if (is_on)
			choose((Query *) node);
		return false;
	}
	return expression_tree_walker(node, choose_walker, context);
}

static PlannedStmt *planner_of_questions(Query *query, const char *text, int options, ParamListInfo parameters)
{
	choose_walker((Node *) query, parameters);
	return next_planner ? next_planner(query, text, options, parameters)
						: standard_planner(query, text, options, parameters);
}

void install_questions(void)
{
	DefineCustomBoolVariable("braid.fewer_rows", "Lets views answer from fewer rows where that gives the same result.", NULL,
							 &is_on, true, PGC_USERSET, 0, NULL, NULL, NULL);
	install_zones();
	MarkGUCPrefixReserved("braid");
	next_planner = planner_hook;
	planner_hook = planner_of_questions;
}
