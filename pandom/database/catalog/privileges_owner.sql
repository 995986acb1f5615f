-- Owners that lack a privilege on their own object.
select
    'privilege' as kind,
    case when c.relkind = 'S' then 'sequence ' when c.relkind = 'v' then 'view ' else 'table ' end
    || c.oid::regclass as object,
    'the owner' as detail,
    'without ' || string_agg(d.privilege_type, ', ' order by d.privilege_type) as value
from pg_catalog.pg_class as c
cross join lateral aclexplode(
    acldefault(case when c.relkind = 'S' then 's' else 'r' end::"char", c.relowner)
) as d
where c.relacl is not null and c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'S')
    and c.relpersistence <> 't'
    -- An owner that has the default entry as a whole is left out early.
    and not c.relacl @> (
        acldefault(case when c.relkind = 'S' then 's' else 'r' end::"char", c.relowner)
    )[1]
    and not exists (
        select
        from aclexplode(c.relacl) as a
        where a.grantee = c.relowner and a.privilege_type = d.privilege_type
    )
group by c.oid, c.relkind;
