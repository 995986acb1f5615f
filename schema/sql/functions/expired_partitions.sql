-- The partitions that retention no longer keeps, oldest first.
set local role pandom_trail;

create or replace function public.expired_partitions(as_of timestamptz default current_timestamp)
returns setof text
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return query
    select c.relname::text
    from public.trail_retention as r
    inner join pg_catalog.pg_class as p on p.relname = r.log
    inner join pg_catalog.pg_inherits as i on i.inhparent = p.oid
    inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
    where p.relnamespace = 'public'::regnamespace
        and c.relname ~ '_y[0-9]{4}m[0-9]{2}$'
        and (select t.upper_bound from public.trail_partition(c.relname) as t)
        <= (
            date_trunc('month', as_of, 'UTC') at time zone 'UTC'
            - make_interval(months => r.months)
        ) at time zone 'UTC'
    order by right(c.relname, 8), c.relname;
end
$$;

comment on function public.expired_partitions(timestamptz) is
'The partitions that retention no longer keeps, oldest first.';
