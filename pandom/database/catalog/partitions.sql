-- Which tables are partitions, of which parent: they are declared with the parent.
select
    'partition' as kind,
    i.inhrelid::regclass::text as object,
    'of' as detail,
    i.inhparent::regclass::text as value
from pg_catalog.pg_inherits as i
inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
where c.relispartition and c.relkind in ('r', 'p') and c.oid >= 16384;
