-- How an application records an event of its own.
--
-- User, time and address are the database's, not the caller's; the database's own
-- event types are refused. Errors: a reserved or malformed event type, details
-- that are no object or exceed 8 KiB, too many events of this user, of this address
-- without a user, or on the whole server.
set local role pandom_trail;

create or replace function public.record_event(event_type text, details jsonb default '{}')
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    rules public.account_settings;
    refused text;
begin
    if record_event.event_type is null
        or record_event.event_type !~ '^[a-z][a-z0-9_]{2,99}$'
    then
        raise exception 'event type must be 3 to 100 of a-z, 0-9 and _, starting with a letter'
            using errcode = 'invalid_parameter_value';
    end if;
    if public.is_reserved_event_type(record_event.event_type) then
        raise exception 'event type % is written by the database only', record_event.event_type
            using errcode = 'insufficient_privilege';
    end if;
    if record_event.details is null or jsonb_typeof(record_event.details) <> 'object' then
        raise exception 'details of an event must be a JSON object'
            using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(record_event.details::text) > 8192 then
        raise exception 'details of an event must not exceed 8192 bytes'
            using errcode = 'program_limit_exceeded';
    end if;
    select s.* into strict rules from public.account_settings as s;
    refused := public.call_refused(
        'record_event', actor::text,
        case when actor is null then rules.events_per_address else rules.events_per_user end,
        rules.event_window, rules.events_per_second, interval '1 second'
    );
    if refused is not null then
        raise exception 'too many events: %', refused
            using errcode = 'configuration_limit_exceeded',
            hint = 'Try again later. Limits are columns of public.account_settings.';
    end if;
    insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
    values (
        actor, record_event.event_type, record_event.details,
        public.client_address(), public.client_agent()
    );
end
$$;

comment on function public.record_event(text, jsonb) is
'Records an event of the application; sets user, time and address itself.';
