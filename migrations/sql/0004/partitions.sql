-- Partitions: protected, and made for this month and the months ahead (P2, T3).
set local role pandom_trail;

-- A parent passes nothing of this on to its partitions.
select public.protect_partition(p.relname, c.relname)
from pg_catalog.pg_inherits as i
inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
inner join pg_catalog.pg_class as p on i.inhparent = p.oid
where
    p.oid in ('public.audit_logs'::regclass, 'public.security_logs'::regclass)
    and not c.relrowsecurity
    and c.relkind = 'r';

select public.ensure_partitions();
