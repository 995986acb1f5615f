-- The months that have a partition, and those whose partition retention dropped.
select
    'present' as state,
    substr(c.relname, length(%(log)s) + 3, 4)::integer as year,
    right(c.relname, 2)::integer as month
from pg_catalog.pg_inherits as i
inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
where i.inhparent = ('public.' || %(log)s)::regclass and c.relname ~ '_y[0-9]{{4}}m[0-9]{{2}}$'
union all
select
    'dropped',
    substr(s.details ->> 'partition', length(%(log)s) + 3, 4)::integer,
    right(s.details ->> 'partition', 2)::integer
from public.security_logs as s
where s.event_type = 'partition_dropped'
    and s.details ->> 'partition' ~ ('^' || %(log)s || '_y[0-9]{{4}}m[0-9]{{2}}$');
