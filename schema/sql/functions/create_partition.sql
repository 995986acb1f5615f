-- Makes one month's partition of the trail, or returns null where it exists.
--
-- It is made apart and attached, so that writers of other months do not wait for
-- more than a moment. Rows of that month in the default partition: none is made.
set local role pandom_trail;

create or replace function public.create_partition(log text, month timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
declare
    name constant text := create_partition.log
    || to_char(create_partition.month at time zone 'UTC', '"_y"YYYY"m"MM');
    upper_bound constant timestamptz :=
    (create_partition.month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
    strays boolean;
begin
    if to_regclass(format('public.%I', name)) is not null then
        return null;
    end if;
    execute format(
        'select exists (select from public.%I where timestamp >= $1 and timestamp < $2)',
        create_partition.log || '_default'
    ) into strays using create_partition.month, upper_bound;
    if strays then
        return null;
    end if;
    execute format(
        'create table public.%I (like public.%I including defaults including constraints)',
        name, create_partition.log
    );
    perform public.protect_partition(create_partition.log, name);
    execute format(
        'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
        create_partition.log, name, create_partition.month, upper_bound
    );
    perform public.write_event(
        'security_logs', null, 'partition_created', 'info', jsonb_build_object('partition', name)
    );
    return name;
end
$$;

comment on function public.create_partition(text, timestamptz) is
'Makes one month''s partition of the trail; null where it exists.';
