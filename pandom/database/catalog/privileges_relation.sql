-- Privileges on tables, views and sequences, MAINTAIN included; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    case c.relkind
        when 'v' then 'view '
        when 'm' then 'materialized view '
        when 'f' then 'foreign table '
        when 'S' then 'sequence '
        else 'table '
    end || c.oid::regclass as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = c.relowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_class as c
cross join lateral aclexplode(coalesce(
    c.relacl, acldefault(case when c.relkind = 'S' then 's' else 'r' end::"char", c.relowner)
)) as a
where a.grantee <> c.relowner
    and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid >= 16384
    and c.relpersistence <> 't'
group by c.oid, c.relkind, a.grantee;
