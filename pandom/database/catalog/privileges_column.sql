-- Privileges on columns; a NULL list is read as PostgreSQL's default, which is nothing.
select
    'privilege' as kind,
    'column ' || quote_ident(t.attname) || ' of ' || c.oid::regclass as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = c.relowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_attribute as t
inner join pg_catalog.pg_class as c on t.attrelid = c.oid
cross join lateral aclexplode(coalesce(t.attacl, acldefault('c', c.relowner))) as a
where a.grantee <> c.relowner
    and t.attacl is not null and not t.attisdropped and c.oid >= 16384
group by c.oid, t.attname, a.grantee;
