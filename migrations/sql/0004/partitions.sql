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

-- Rows that came back from trail_archive lie in the default partitions (M3).
select public.drain_default('security_logs');
select public.drain_default('audit_logs');
select public.ensure_partitions();
