-- For monitoring: sessions that have expired and are not deleted, and the longest transaction.
--
-- Numbers only, never a row. While a transaction is open, later events cannot be sealed.
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
'For monitoring: sessions that have expired and are still there; the longest open transaction.';
