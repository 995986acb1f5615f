-- Why a call comes too often, or null: then it is counted.
--
-- Calls are counted by caller and on the whole server, one row each: an updated counter
-- would be locked until its transaction ends. Refused calls write nothing, so the table
-- grows no faster than the limits allow. Uncommitted calls count for their own transaction
-- only. Without a caller the client's address counts, in IPv6 its network. A limit of 0 or
-- null is none.
set local role pandom_definer;

create or replace function public.call_refused(
    kind text, caller text, per_caller integer, span interval,
    per_server integer, server_span interval
)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
    address constant inet := public.client_address();
    key constant text := coalesce(
        call_refused.caller,
        case when family(address) = 6 then text(network(set_masklen(address, 64)))
            else host(address) end,
        'no address'
    );
    moment constant timestamptz := clock_timestamp();
    since constant timestamptz := moment - call_refused.span;
    server_since constant timestamptz := moment - call_refused.server_span;
    caller_full boolean;
    server_full boolean;
begin
    select
        call_refused.per_caller > 0 and (
            select count(*) >= call_refused.per_caller
            from (
                select from public.recent_calls as c
                where c.kind = call_refused.kind and c.caller = key and c.called_at > since
                limit call_refused.per_caller
            ) as counted
        ),
        call_refused.per_server > 0 and (
            select count(*) >= call_refused.per_server
            from (
                select from public.recent_calls as c
                where c.kind = call_refused.kind and c.called_at > server_since
                limit call_refused.per_server
            ) as counted
        )
    into caller_full, server_full;
    if caller_full then
        return format(
            'at most %s in %s from %s', call_refused.per_caller, call_refused.span, key
        );
    end if;
    if server_full then
        return format(
            'at most %s in %s on the whole server',
            call_refused.per_server, call_refused.server_span
        );
    end if;
    if call_refused.per_caller > 0 or call_refused.per_server > 0 then
        insert into public.recent_calls (kind, caller, called_at)
        values (call_refused.kind, key, moment);
    end if;
    return null;
end
$$;

comment on function public.call_refused(text, text, integer, interval, integer, interval) is
'Why a call comes too often, by caller or on the server; null: it is counted.';
