-- Privileges on this database; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'database ' || quote_ident(d.datname) as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = d.datdba then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_database as d
cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
where a.grantee <> d.datdba
    and d.datname = current_database()
group by d.oid, d.datname, a.grantee;
