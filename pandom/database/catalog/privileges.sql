-- Privileges on everything that has an access list: the owner's own are left out, a grant
-- option is a star, a grantor other than the owner is named.
with lists (object, owner, acl) as (
    select o.name, o.owner, o.acl
    from (
        {objects}
    ) as o
    union all
    select 'column ' || quote_ident(t.attname) || ' of ' || c.oid::regclass, c.relowner, t.attacl
    from pg_catalog.pg_attribute as t
    inner join pg_catalog.pg_class as c on t.attrelid = c.oid
    where t.attacl is not null and not t.attisdropped and c.oid >= 16384
    union all
    -- Configuration parameters (SET, ALTER SYSTEM) are the bootstrap superuser's.
    select 'parameter ' || parname, 10, paracl
    from pg_catalog.pg_parameter_acl
)

select
    'privilege' as kind,
    l.object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = l.owner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from lists as l
cross join lateral aclexplode(l.acl) as a
where a.grantee <> l.owner
group by l.object, a.grantee;
