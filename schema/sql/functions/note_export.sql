-- Records that a partition was exported, and where to.
--
-- Error: the partition is not what the export is said to hold.
set local role pandom_trail;

create or replace function public.note_export(
    name text, row_count bigint, sha256 text, place text
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    digest record;
begin
    select d.row_count, d.sha256 into digest
    from public.partition_digest(note_export.name) as d;
    if digest.row_count is distinct from note_export.row_count
        or digest.sha256 is distinct from note_export.sha256
    then
        raise exception 'partition % is not what was exported: it has % rows, digest %',
            note_export.name, digest.row_count, digest.sha256
            using errcode = 'data_exception';
    end if;
    perform public.write_event(
        'security_logs', null, 'partition_exported', 'info',
        jsonb_build_object(
            'partition', note_export.name,
            'rows', digest.row_count,
            'sha256', digest.sha256,
            'place', left(note_export.place, 512)
        )
    );
end
$$;

comment on function public.note_export(text, bigint, text, text) is
'Records that a partition was exported, and where to.';
