-- Records a backup, a dump, or what became of a drill; nothing else of the reserved types.
--
-- Error: another event type.
set local role pandom_trail;

create or replace function public.note_recovery(event_type text, details jsonb)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    if note_recovery.event_type not in ('backup_made', 'dump_made', 'drill_passed', 'drill_failed') then
        raise exception '% is no event of backups', coalesce(note_recovery.event_type, 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    perform public.write_event(
        'security_logs', null, note_recovery.event_type,
        case when note_recovery.event_type = 'drill_failed' then 'error' else 'info' end,
        coalesce(note_recovery.details, '{}')
    );
end
$$;

comment on function public.note_recovery(text, jsonb) is
'Records a backup, a dump, or what became of a drill.';
