-- For monitoring: failed sign-ins, users with many events, age of the oldest unsealed event.
--
-- Numbers only, never a row. The age is 0 where nothing waits to be sealed. Unsealed rows of an
-- earlier epoch are left out: the next seal takes them.
set local role pandom_trail;

create or replace function public.measure_trail(
    out failed_sign_ins bigint, out suspicious_users bigint, out unsealed_seconds float8
)
returns record
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
    chain text;
    present integer;
    waiting float8;
begin
    select f.failed_logins into failed_sign_ins from public.failed_logins_last_hour as f;
    select count(*) into suspicious_users from public.suspicious_activity as s;
    unsealed_seconds := 0;
    foreach chain in array array['audit_logs', 'security_logs'] loop
        select pg_get_expr(d.adbin, d.adrelid)::integer into strict present
        from pg_catalog.pg_attrdef as d
        inner join pg_catalog.pg_attribute as a on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = format('public.%I', chain)::regclass and a.attname = 'epoch';
        execute format($query$
            select extract(epoch from now() - t.timestamp)
            from public.%I as t
            where t.epoch = $2 and (t.epoch, t.tx, t.id) > (
                select
                    coalesce(max(b.last_epoch), 0), coalesce(max(b.last_tx), '0'::xid8),
                    coalesce(max(b.last_id), 0)
                from (
                    select k.last_epoch, k.last_tx, k.last_id from public.trail_blocks as k
                    where k.log = $1 order by k.number desc limit 1
                ) as b
            )
            order by t.epoch, t.tx, t.id
            limit 1
        $query$, chain) into waiting using chain, present;
        unsealed_seconds := greatest(unsealed_seconds, waiting);
    end loop;
end
$$;

comment on function public.measure_trail() is
'For monitoring: failed sign-ins, users with many events, age of the oldest unsealed event.';
