-- Every object that has an owner, with its access list or PostgreSQL's default for its kind.
-- Included by other queries. What PostgreSQL brought along is left out.
select
    'pg_catalog.pg_class'::regclass as class,
    c.oid,
    case c.relkind
        when 'v' then 'view '
        when 'm' then 'materialized view '
        when 'f' then 'foreign table '
        when 'S' then 'sequence '
        else 'table '
    end || c.oid::regclass as name,
    c.relowner as owner,
    coalesce(
        c.relacl, acldefault(case when c.relkind = 'S' then 's' else 'r' end::"char", c.relowner)
    ) as acl
from pg_catalog.pg_class as c
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid >= 16384 and c.relpersistence <> 't'
union all
select
    'pg_catalog.pg_proc'::regclass,
    p.oid,
    case p.prokind when 'p' then 'procedure ' when 'a' then 'aggregate ' else 'function ' end
    || replace(p.oid::regprocedure::text, ',', ', '),
    p.proowner,
    coalesce(p.proacl, acldefault('f', p.proowner))
from pg_catalog.pg_proc as p
where p.oid >= 16384
union all
select
    'pg_catalog.pg_type'::regclass,
    t.oid,
    case t.typtype when 'd' then 'domain ' else 'type ' end || t.oid::regtype,
    t.typowner,
    coalesce(t.typacl, acldefault('T', t.typowner))
from pg_catalog.pg_type as t
left join pg_catalog.pg_class as c on t.typrelid = c.oid
-- Row types and array types follow their table or element; so does a multirange.
where t.oid >= 16384 and t.typtype <> 'm'
    and (t.typrelid = 0 or c.relkind = 'c')
    and t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc
union all
select
    'pg_catalog.pg_namespace'::regclass, oid, 'schema ' || quote_ident(nspname), nspowner,
    coalesce(nspacl, acldefault('n', nspowner))
from pg_catalog.pg_namespace
where nspname = 'public' or (oid >= 16384 and nspname !~ '^pg_(toast_)?temp_')
union all
select
    'pg_catalog.pg_database'::regclass, oid, 'database ' || quote_ident(datname), datdba,
    coalesce(datacl, acldefault('d', datdba))
from pg_catalog.pg_database
where datname = current_database()
union all
select
    'pg_catalog.pg_language'::regclass, oid, 'language ' || quote_ident(lanname), lanowner,
    coalesce(lanacl, acldefault('l', lanowner))
from pg_catalog.pg_language
where oid >= 16384
union all
select
    'pg_catalog.pg_foreign_data_wrapper'::regclass, oid,
    'foreign data wrapper ' || quote_ident(fdwname), fdwowner,
    coalesce(fdwacl, acldefault('F', fdwowner))
from pg_catalog.pg_foreign_data_wrapper
union all
select
    'pg_catalog.pg_foreign_server'::regclass, oid, 'foreign server ' || quote_ident(srvname),
    srvowner, coalesce(srvacl, acldefault('S', srvowner))
from pg_catalog.pg_foreign_server
union all
select
    'pg_catalog.pg_tablespace'::regclass, oid, 'tablespace ' || quote_ident(spcname), spcowner,
    coalesce(spcacl, acldefault('t', spcowner))
from pg_catalog.pg_tablespace
union all
select
    'pg_catalog.pg_largeobject'::regclass, oid, 'large object ' || oid, lomowner,
    coalesce(lomacl, acldefault('L', lomowner))
from pg_catalog.pg_largeobject_metadata
