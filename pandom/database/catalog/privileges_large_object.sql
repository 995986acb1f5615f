-- Privileges on large objects; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'large object ' || o.oid as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = o.lomowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_largeobject_metadata as o
cross join lateral aclexplode(coalesce(o.lomacl, acldefault('L', o.lomowner))) as a
where a.grantee <> o.lomowner
group by o.oid, a.grantee;
