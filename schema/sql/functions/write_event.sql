-- Writes one event of the database's own into the trail.
--
-- Only the account functions may call it: unlike record_event() it takes the
-- actor and reserved event types as given.
set local role pandom_trail;

create or replace function public.write_event(
    log text, actor uuid, event_type text, severity text, details jsonb
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    if write_event.log = 'security_logs' then
        insert into public.security_logs
        (user_uuid, event_type, severity, details, ip_address, user_agent)
        values (
            write_event.actor, write_event.event_type, write_event.severity,
            write_event.details || jsonb_build_object('session_user', session_user),
            public.client_address(), public.client_agent()
        );
    else
        insert into public.audit_logs
        (user_uuid, event_type, severity, details, ip_address, user_agent)
        values (
            write_event.actor, write_event.event_type, write_event.severity,
            write_event.details || jsonb_build_object('session_user', session_user),
            public.client_address(), public.client_agent()
        );
    end if;
end
$$;

comment on function public.write_event(text, uuid, text, text, jsonb) is
'Writes an event of the database''s own; for the account functions only.';
