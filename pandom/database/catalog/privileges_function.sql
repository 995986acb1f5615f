-- Privileges on functions, procedures and aggregates; a NULL list is read as PostgreSQL's
-- default for the kind.
select
    'privilege' as kind,
    case p.prokind when 'p' then 'procedure ' when 'a' then 'aggregate ' else 'function ' end
    || replace(p.oid::regprocedure::text, ',', ', ') as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = p.proowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_proc as p
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
where a.grantee <> p.proowner
    and p.oid >= 16384
group by p.oid, p.prokind, a.grantee;
