-- Ends sessions of clients that hold up everybody else.
--
-- A client may switch off its role's time limits, but not this: it ends sessions whose
-- transaction is open longer than transaction_limit, because the trail is not sealed and
-- no table can change meanwhile, and sessions with so many locks that soon nobody could
-- connect. Only logins of applications; a dump or a migration takes its time. Returns a
-- line for each. It reads no table, which would need a lock (the janitor keeps a session).
set local role pandom_definer;

create or replace function public.end_long_transactions()
returns setof text
language plpgsql
security definer
set search_path = ''
as $$
declare
    client record;
    time_limit interval := interval '10 minutes';
begin
    begin
        select s.transaction_limit into strict time_limit from public.account_settings as s;
    exception
        when out_of_memory then null;
    end;
    for client in
        select a.pid, r.login, a.application_name, a.xact_start, l.locks
        from pg_catalog.pg_stat_get_activity(null) as a
        cross join lateral (select pg_catalog.pg_get_userbyid(a.usesysid) as login) as r
        left join (
            select h.pid, count(*) as locks from pg_catalog.pg_lock_status() as h group by h.pid
        ) as l on a.pid = l.pid
        where r.login in ('pandom_app', 'pandom_mailer', 'pandom_service')
            and (l.locks > 2000 or a.xact_start < clock_timestamp() - time_limit)
    loop
        if pg_catalog.pg_terminate_backend(client.pid) then
            return next format(
                'ended server process %s of %s (%s): %s',
                client.pid, client.login, client.application_name,
                case
                    when client.locks > 2000 then format('it held %s locks', client.locks)
                    else format('its transaction was open since %s', client.xact_start)
                end
            );
        end if;
    end loop;
end
$$;

comment on function public.end_long_transactions() is
'Ends sessions of clients with too long a transaction or too many locks.';
