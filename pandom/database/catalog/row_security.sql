-- Row security and FORCE of every table; a parent passes neither on to its partitions.
select 'row security' as kind, 'table ' || c.oid::regclass as object, f.detail, f.value
from pg_catalog.pg_class as c
cross join lateral (
    values ('enabled', c.relrowsecurity::text), ('forced', c.relforcerowsecurity::text)
) as f (detail, value)
where c.relkind in ('r', 'p') and c.oid >= 16384 and c.relpersistence <> 't';
