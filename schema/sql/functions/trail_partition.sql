-- The table and bounds of a month's partition of the trail.
--
-- Error: there is no such partition, or it is the default one.
set local role pandom_trail;

create or replace function public.trail_partition(
    name text, out log text, out lower_bound timestamptz, out upper_bound timestamptz
)
language plpgsql
stable
set search_path = ''
as $$
begin
    select
        p.relname,
        make_timestamptz(
            substr(c.relname, length(p.relname) + 3, 4)::integer,
            substr(c.relname, length(p.relname) + 8, 2)::integer,
            1, 0, 0, 0, 'UTC'
        )
    into log, lower_bound
    from pg_catalog.pg_inherits as i
    inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
    inner join pg_catalog.pg_class as p on i.inhparent = p.oid
    where p.oid in ('public.audit_logs'::regclass, 'public.security_logs'::regclass)
        and c.relname = trail_partition.name
        and c.relname ~ '_y[0-9]{4}m[0-9]{2}$';
    if not found then
        raise exception 'the trail has no partition %', trail_partition.name
            using errcode = 'invalid_parameter_value';
    end if;
    upper_bound := (lower_bound at time zone 'UTC' + interval '1 month') at time zone 'UTC';
end
$$;

comment on function public.trail_partition(text) is
'The table and bounds of a month''s partition of the trail.';
