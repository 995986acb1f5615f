-- Moves what the default partition caught into partitions of its months.
--
-- Locks the default partition against writers while it moves; writers of months that
-- have a partition go on. Returns how many rows it moved.
set local role pandom_trail;

create or replace function public.drain_default(log text)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    default_name constant text := drain_default.log || '_default';
    month timestamptz;
    name text;
    upper_bound timestamptz;
    moved bigint;
    total bigint := 0;
begin
    if drain_default.log not in ('audit_logs', 'security_logs') then
        raise exception 'the trail has no table %', drain_default.log
            using errcode = 'invalid_parameter_value';
    end if;
    execute format('lock table public.%I in share row exclusive mode', default_name);
    for month in execute format(
        'select distinct date_trunc(''month'', timestamp, ''UTC'') from public.%I order by 1',
        default_name
    )
    loop
        name := drain_default.log || to_char(month at time zone 'UTC', '"_y"YYYY"m"MM');
        upper_bound := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
        execute format(
            'create table public.%I (like public.%I including defaults including constraints)',
            name, drain_default.log
        );
        -- Rows of an older revision may be larger than today's limit.
        execute format(
            'alter table public.%I drop constraint %I', name,
            'ck_' || drain_default.log || '_details'
        );
        execute format(
            'with moved as (delete from public.%I where timestamp >= $1 and timestamp < $2 '
            'returning *) insert into public.%I select * from moved', default_name, name
        ) using month, upper_bound;
        get diagnostics moved = row_count;
        total := total + moved;
        perform public.limit_details(drain_default.log, name);
        perform public.protect_partition(drain_default.log, name);
        execute format(
            'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
            drain_default.log, name, month, upper_bound
        );
    end loop;
    if total > 0 then
        -- The event must find its month, or it would be the next row in a default partition.
        perform public.create_partition(
            'security_logs',
            date_trunc('month', current_timestamp at time zone 'UTC') at time zone 'UTC'
        );
        perform public.write_event(
            'security_logs', null, 'partition_drained', 'warning',
            jsonb_build_object('partition', default_name, 'rows', total)
        );
    end if;
    return total;
end
$$;

comment on function public.drain_default(text) is
'Moves what the default partition caught into partitions of its months.';
