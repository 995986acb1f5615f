-- Built-in objects with other privileges than PostgreSQL gave them: before -> now.
with init as (
    select i.classoid, i.objoid, i.objsubid, i.initprivs
    from pg_catalog.pg_init_privs as i
    where i.objoid < 16384
),

-- Only objects that have an access list now, or had one at installation.
changed (type, name, owner, begun_with, holds) as (
    select
        'f'::"char",
        'function ' || replace(p.oid::regprocedure::text, ',', ', '),
        p.proowner,
        i.initprivs,
        p.proacl
    from pg_catalog.pg_proc as p
    left join init as i
        on p.oid = i.objoid and i.classoid = 'pg_catalog.pg_proc'::regclass
    where p.oid < 16384
        and (
            p.proacl is not null
            or p.oid in (
                select n.objoid from init as n where n.classoid = 'pg_catalog.pg_proc'::regclass
            )
        )
        and p.proacl is distinct from i.initprivs
    union all
    select 'r', 'table ' || c.oid::regclass, c.relowner, i.initprivs, c.relacl
    from pg_catalog.pg_class as c
    left join init as i
        on c.oid = i.objoid and i.classoid = 'pg_catalog.pg_class'::regclass and i.objsubid = 0
    where c.oid < 16384 and c.relkind in ('r', 'v') and c.relacl is distinct from i.initprivs
    union all
    select
        'c',
        'column ' || quote_ident(t.attname) || ' of ' || c.oid::regclass,
        c.relowner,
        i.initprivs,
        t.attacl
    from pg_catalog.pg_attribute as t
    inner join pg_catalog.pg_class as c on t.attrelid = c.oid
    left join init as i
        on c.oid = i.objoid and i.classoid = 'pg_catalog.pg_class'::regclass
        and t.attnum = i.objsubid
    where t.attacl is not null and t.attrelid < 16384 and t.attnum > 0
        and t.attacl is distinct from i.initprivs
    union all
    select 'T', 'type ' || t.oid::regtype, t.typowner, i.initprivs, t.typacl
    from pg_catalog.pg_type as t
    left join init as i
        on t.oid = i.objoid and i.classoid = 'pg_catalog.pg_type'::regclass
    where t.oid < 16384 and t.typacl is distinct from i.initprivs
    union all
    select 'n', 'schema ' || quote_ident(n.nspname), n.nspowner, i.initprivs, n.nspacl
    from pg_catalog.pg_namespace as n
    left join init as i
        on n.oid = i.objoid and i.classoid = 'pg_catalog.pg_namespace'::regclass
    where n.oid < 16384 and n.nspname <> 'public' and n.nspacl is distinct from i.initprivs
    union all
    select 'l', 'language ' || quote_ident(l.lanname), l.lanowner, i.initprivs, l.lanacl
    from pg_catalog.pg_language as l
    left join init as i
        on l.oid = i.objoid and i.classoid = 'pg_catalog.pg_language'::regclass
    where l.oid < 16384 and l.lanacl is distinct from i.initprivs
),

entries as (
    select
        c.name,
        s.state,
        case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end
        || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end as entry
    from changed as c
    cross join lateral (values ('before', c.begun_with), ('now', c.holds)) as s (state, acl)
    cross join lateral aclexplode(coalesce(s.acl, acldefault(c.type, c.owner))) as a
    where a.grantee <> c.owner
),

lists (name, before, now) as (
    select
        c.name,
        coalesce(
            string_agg(e.entry, ', ' order by e.entry) filter (where e.state = 'before'), 'nobody'
        ),
        coalesce(
            string_agg(e.entry, ', ' order by e.entry) filter (where e.state = 'now'), 'nobody'
        )
    from changed as c
    left join entries as e on c.name = e.name
    group by c.name
)

-- PostgreSQL does not note its own grants on information_schema as initial ones.
select
    'system privilege' as kind,
    l.name as object,
    'privileges' as detail,
    l.before || ' -> ' || l.now as value
from lists as l
where l.before <> l.now
    and not (
        l.name ~ '^(table|schema) information_schema' and l.before = 'nobody'
        and l.now in ('PUBLIC SELECT', 'PUBLIC USAGE')
    );
