-- What there is to grant on in schema public, columns included, and its owner.
select o.name, pg_get_userbyid(o.owner)
from (
    select e.name, e.owner
    from (
        {objects}
    ) as e
    union all
    select 'column ' || quote_ident(a.attname) || ' of ' || c.oid::regclass, c.relowner
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_attribute as a on c.oid = a.attrelid
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and a.attnum > 0 and not a.attisdropped
) as o (name, owner)
where strpos(o.name, ' public.') > 0;
