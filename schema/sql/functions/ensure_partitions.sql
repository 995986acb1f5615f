-- Makes the partitions of the trail for this month and the months ahead.
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
    made text;
begin
    -- security_logs first: making a partition writes an event into it.
    for log in
        select r.log, r.months_ahead from public.trail_retention as r order by r.log desc
    loop
        for ahead in 0..log.months_ahead loop
            made := public.create_partition(
                log.log,
                (
                    date_trunc('month', as_of at time zone 'UTC')
                    + make_interval(months => ahead)
                ) at time zone 'UTC'
            );
            if made is not null then
                return next made;
            end if;
        end loop;
    end loop;
end
$$;

comment on function public.ensure_partitions(timestamptz) is
'Makes the trail''s partitions for this month and the months ahead.';
