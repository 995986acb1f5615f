-- Privileges on tablespaces; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'tablespace ' || quote_ident(s.spcname) as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = s.spcowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_tablespace as s
cross join lateral aclexplode(coalesce(s.spcacl, acldefault('t', s.spcowner))) as a
where a.grantee <> s.spcowner
group by s.oid, s.spcname, a.grantee;
