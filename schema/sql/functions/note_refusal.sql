-- Records that somebody unknown was refused, up to a rate.
--
-- A stranger could fill the trail with refusals: the last one within the limit says that
-- more of its kind from this address are not recorded for a while.
set local role pandom_definer;

create or replace function public.note_refusal(log text, actor uuid, event_type text)
returns void
language plpgsql
set search_path = ''
as $$
declare
    rules public.account_settings;
    details jsonb := '{}';
begin
    select s.* into strict rules from public.account_settings as s;
    if public.call_refused(
        note_refusal.event_type, null, rules.events_per_address, rules.event_window,
        rules.events_per_second, interval '1 second'
    ) is not null
    then
        -- Said once in a window; this kind is counted, too.
        if public.call_refused(
            note_refusal.event_type || ' unrecorded', null, 1, rules.event_window,
            rules.events_per_second, interval '1 second'
        ) is not null
        then
            return;
        end if;
        details := jsonb_build_object('unrecorded', format('more within %s', rules.event_window));
    end if;
    perform public.write_event(
        note_refusal.log, note_refusal.actor, note_refusal.event_type, 'warning', details
    );
end
$$;

comment on function public.note_refusal(text, uuid, text) is
'Records that somebody was refused, up to a rate.';
