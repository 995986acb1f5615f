-- Privileges on foreign data wrappers; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    'foreign data wrapper ' || quote_ident(w.fdwname) as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = w.fdwowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_foreign_data_wrapper as w
cross join lateral aclexplode(coalesce(w.fdwacl, acldefault('F', w.fdwowner))) as a
where a.grantee <> w.fdwowner
group by w.oid, w.fdwname, a.grantee;
