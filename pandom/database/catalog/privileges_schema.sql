-- Privileges on schemas; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'schema ' || quote_ident(n.nspname) as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = n.nspowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_namespace as n
cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
where a.grantee <> n.nspowner
    and (n.nspname = 'public' or (n.oid >= 16384 and n.nspname !~ '^pg_(toast_)?temp_'))
group by n.oid, n.nspname, a.grantee;
