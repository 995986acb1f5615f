-- What monitoring may know of sessions and transactions: numbers, never a row.
--
-- An expired session that stays means that nobody deletes them; a transaction that stays open
-- keeps the trail from being sealed.
set local role pandom_definer;

create or replace function public.measure_activity(
    out expired_sessions bigint,
    out oldest_expired_seconds float8,
    out longest_transaction_seconds float8
)
returns record
language sql
stable
security definer
set search_path = ''
as $$
    select
        e.expired,
        coalesce(extract(epoch from now() - e.oldest), 0)::float8,
        coalesce(extract(epoch from clock_timestamp() - t.oldest), 0)::float8
    from (
        select count(*) as expired, min(s.expires_at) as oldest
        from public.sessions as s
        where s.expires_at < now()
    ) as e
    cross join (
        select min(a.xact_start) as oldest
        from pg_catalog.pg_stat_get_activity(null) as a
        where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
    ) as t
$$;

comment on function public.measure_activity() is
'Numbers for monitoring: expired sessions that stay, the longest open transaction.';
