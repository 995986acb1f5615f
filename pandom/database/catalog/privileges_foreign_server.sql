-- Privileges on foreign servers; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'foreign server ' || quote_ident(s.srvname) as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = s.srvowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_foreign_server as s
cross join lateral aclexplode(coalesce(s.srvacl, acldefault('S', s.srvowner))) as a
where a.grantee <> s.srvowner
group by s.oid, s.srvname, a.grantee;
