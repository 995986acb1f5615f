-- Drops a month of the trail that retention no longer keeps and that was exported.
--
-- The caller states what its export holds; the function recomputes and refuses a
-- difference. Errors: no such partition, still kept, other rows than stated.
set local role pandom_trail;

create or replace function public.drop_partition(name text, row_count bigint, sha256 text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    log text;
    digest record;
begin
    select t.log into log from public.trail_partition(drop_partition.name) as t;
    if not exists (
        select from public.expired_partitions() as e where e = drop_partition.name
    ) then
        raise exception 'partition % is within its retention', drop_partition.name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- Nobody can add a row between the count and the drop.
    execute format('lock table public.%I in share row exclusive mode', drop_partition.name);
    select d.row_count, d.sha256 into digest
    from public.partition_digest(drop_partition.name) as d;
    if digest.row_count is distinct from drop_partition.row_count
        or digest.sha256 is distinct from drop_partition.sha256
    then
        raise exception 'partition % is not what was exported: it has % rows, digest %',
            drop_partition.name, digest.row_count, digest.sha256
            using errcode = 'data_exception';
    end if;
    perform public.write_event(
        'security_logs', null, 'partition_dropped', 'warning',
        jsonb_build_object(
            'partition', drop_partition.name,
            'rows', digest.row_count,
            'sha256', digest.sha256
        )
    );
    execute format('alter table public.%I detach partition public.%I', log, drop_partition.name);
    execute format('drop table public.%I', drop_partition.name);
end
$$;

comment on function public.drop_partition(text, bigint, text) is
'Drops an expired, exported month of the trail; recomputes what was exported.';
