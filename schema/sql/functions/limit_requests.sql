-- Refuses a request of an account function that comes too often.
--
-- kind is registrations, resets or verifications. It looks at who calls, never at whom
-- the request is about, so that its answer says nothing about who exists.
-- Error: configuration_limit_exceeded, which names the limit.
set local role pandom_definer;

create or replace function public.limit_requests(kind text)
returns void
language plpgsql
set search_path = ''
as $$
declare
    rules public.account_settings;
    refused text;
begin
    select s.* into strict rules from public.account_settings as s;
    refused := public.call_refused(
        limit_requests.kind,
        null,
        case limit_requests.kind
            when 'registrations' then rules.registrations_per_address
            when 'resets' then rules.resets_per_address
            when 'verifications' then rules.verifications_per_address
        end,
        rules.request_window,
        case limit_requests.kind
            when 'registrations' then rules.registrations_per_server
            when 'resets' then rules.resets_per_server
            when 'verifications' then rules.verifications_per_server
        end,
        rules.request_window
    );
    if refused is not null then
        raise exception 'too many %: %', limit_requests.kind, refused
            using errcode = 'configuration_limit_exceeded',
            hint = 'Try again later. Limits are columns of public.account_settings.';
    end if;
end
$$;

comment on function public.limit_requests(text) is
'Refuses a request that comes too often from an address or on the server.';
