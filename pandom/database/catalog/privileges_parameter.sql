-- Privileges on configuration parameters (SET, ALTER SYSTEM); a NULL list is read as PostgreSQL's default for the kind, which is nothing.
select
    'privilege' as kind,
    'parameter ' || p.parname as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = 10 then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_parameter_acl as p
cross join lateral aclexplode(coalesce(p.paracl, acldefault('p', 10))) as a
where a.grantee <> 10
group by p.oid, p.parname, a.grantee;
