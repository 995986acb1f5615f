-- What objects made later will grant, global and per schema.
--
-- A global entry replaces PostgreSQL's default for the kind, so an entry that equals
-- the default is no difference; a kind without a global entry has that default. Per
-- schema entries only add. The owner's own privileges are left out.
with kinds (objtype, kind, acltype) as (
    values
    ('r'::"char", 'tables', 'r'::"char"),
    ('S', 'sequences', 's'),
    ('f', 'functions', 'f'),
    ('T', 'types', 'T'),
    ('n', 'schemas', 'n')
),

entries as (
    select r.oid as role, k.kind, null::text as schema, a.*
    from pg_catalog.pg_roles as r
    cross join kinds as k
    left join pg_catalog.pg_default_acl as d
        on r.oid = d.defaclrole and k.objtype = d.defaclobjtype and d.defaclnamespace = 0
    cross join lateral aclexplode(coalesce(d.defaclacl, acldefault(k.acltype, r.oid))) as a
    -- A declared owner without an entry has PostgreSQL's default again.
    where d.oid is not null or r.rolname = any(%(owners)s)
    union all
    select d.defaclrole, k.kind, n.nspname, a.*
    from pg_catalog.pg_default_acl as d
    inner join kinds as k on d.defaclobjtype = k.objtype
    inner join pg_catalog.pg_namespace as n on d.defaclnamespace = n.oid
    cross join lateral aclexplode(d.defaclacl) as a
)

select
    'default privilege' as kind,
    e.kind || ' of ' || pg_get_userbyid(e.role)
    || coalesce(' in schema ' || quote_ident(e.schema), '') as object,
    case when e.grantee = 0 then 'PUBLIC' else pg_get_userbyid(e.grantee) end as detail,
    string_agg(
        e.privilege_type || case when e.is_grantable then '*' else '' end,
        ', ' order by e.privilege_type
    ) as value
from entries as e
where e.grantee <> e.role
group by e.kind, e.role, e.schema, e.grantee;
