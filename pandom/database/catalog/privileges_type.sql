-- Privileges on types and domains; a NULL list is read as PostgreSQL's default for the kind.
select
    'privilege' as kind,
    case t.typtype when 'd' then 'domain ' else 'type ' end || t.oid::regtype as object,
    case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end as detail,
    string_agg(
        a.privilege_type || case when a.is_grantable then '*' else '' end
        || case when a.grantor = t.typowner then '' else '/' || pg_get_userbyid(a.grantor) end,
        ', ' order by a.privilege_type, a.grantor
    ) as value
from pg_catalog.pg_type as t
left join pg_catalog.pg_class as c on t.typrelid = c.oid
cross join lateral aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) as a
where a.grantee <> t.typowner
    and t.oid >= 16384 and t.typtype <> 'm'
    and (t.typrelid = 0 or c.relkind = 'c')
    and t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc
group by t.oid, t.typtype, a.grantee;
