-- Makes the partitions of the trail for this month and the months ahead (T3, T5).
--
-- Bounds are months of UTC, whatever the session's time zone. A new partition gets
-- row security, FORCE, its policies and the dump login's SELECT here, because a
-- parent passes none of them on. Rows that fell into the default partition stay
-- there until drain_default(). Returns the names of the partitions made.
set local role pandom_trail;

create or replace function public.ensure_partitions(as_of timestamptz default current_timestamp)
returns setof text
language plpgsql
security definer
set search_path = ''
as $$
declare
    log record;
    month timestamptz;
    made text;
begin
    for log in
        select r.log, r.months_ahead from public.trail_retention as r order by r.log
    loop
        for month in
            select m.month
            from generate_series(
                date_trunc('month', as_of, 'UTC'),
                date_trunc('month', as_of, 'UTC') + make_interval(months => log.months_ahead),
                interval '1 month',
                'UTC'
            ) as m (month)
        loop
            made := public.create_partition(log.log, month);
            if made is not null then
                return next made;
            end if;
        end loop;
    end loop;
end
$$;

comment on function public.ensure_partitions(timestamptz) is
'Makes the trail''s partitions for this month and the months ahead. T3 T5';
