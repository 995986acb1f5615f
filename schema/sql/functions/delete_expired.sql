-- Deletes what has expired: sessions, messages, e-mail changes, old attempts.
--
-- At most batch_size rows of each kind, so that no lock lasts; the janitor repeats
-- until it returns 0. Returns the number of rows deleted.
set local role pandom_definer;

create or replace function public.delete_expired(batch_size integer default 1000)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    batch bigint;
    total bigint := 0;
begin
    delete from public.sessions as s
    where s.id in (
        select e.id
        from public.sessions as e
        where e.expires_at < current_timestamp
        order by e.expires_at
        limit batch_size
        for update skip locked
    );
    get diagnostics batch = row_count;
    total := total + batch;
    if batch > 0 then
        perform public.write_event(
            'audit_logs', null, 'sessions_expired', 'info', jsonb_build_object('rows', batch)
        );
    end if;
    delete from public.outbox as o
    where o.id in (
        select e.id from public.outbox as e where e.expires_at < current_timestamp
        limit batch_size
        for update skip locked
    );
    get diagnostics batch = row_count;
    total := total + batch;
    delete from public.recent_calls as r
    where r.ctid in (
        select e.ctid
        from public.recent_calls as e
        cross join public.account_settings as s
        where e.called_at < clock_timestamp() - case e.kind
            when 'record_event' then s.event_window
            else greatest(s.request_window, s.message_window, s.event_window)
        end
        limit batch_size
    );
    get diagnostics batch = row_count;
    total := total + batch;
    delete from public.email_changes as c where c.expires_at < current_timestamp;
    delete from public.sign_in_attempts as a
    where greatest(a.last_failed_at, a.last_succeeded_at) < current_timestamp - interval '30 days';
    return total;
end
$$;

comment on function public.delete_expired(integer) is
'Deletes expired sessions and messages in batches; for the janitor.';
