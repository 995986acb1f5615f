-- Privileges on languages; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'language ' || quote_ident(l.lanname) as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = l.lanowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_language as l
cross join lateral aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) as a
where a.grantee <> l.lanowner
    and l.oid >= 16384
group by l.oid, l.lanname, a.grantee;
