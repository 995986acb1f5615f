set local role pandom_trail;

create or replace function public.seal_trail(block_rows integer default 10000)
returns bigint
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
set client_encoding = 'UTF8'
set work_mem = '64MB'
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
    chain text;
    present integer;
    head public.trail_blocks;
    fresh public.trail_blocks;
    sealed bigint := 0;
begin
    begin
        perform from public.trail_retention as r for no key update nowait;
    exception
        when lock_not_available then
            raise exception 'the trail is being sealed already, by %', coalesce((
                select string_agg(
                    format('server process %s (%s)', l.pid, a.usename), ', ' order by l.pid
                )
                from pg_catalog.pg_locks as l
                inner join pg_catalog.pg_stat_activity as a on l.pid = a.pid
                where l.relation = 'public.trail_retention'::regclass
                    and l.mode in ('RowShareLock', 'RowExclusiveLock')
                    and l.pid <> pg_backend_pid()
            ), 'a session that has just ended')
                using errcode = 'lock_not_available',
                hint = 'Wait for it, or end it: pg_terminate_backend(PID) as the superuser.';
    end;
    foreach chain in array array['audit_logs', 'security_logs'] loop
        select b.* into head
        from public.trail_blocks as b
        where b.log = chain
        order by b.number desc
        limit 1;
        select pg_get_expr(d.adbin, d.adrelid)::integer into strict present
        from pg_catalog.pg_attrdef as d
        inner join pg_catalog.pg_attribute as a
            on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = format('public.%I', chain)::regclass and a.attname = 'epoch';
        for fresh in execute format(
            $query$
            with chosen as (
                select
                    t.*,
                    sum(pg_column_size(t.details)) over (
                        order by t.epoch, t.tx, t.id rows unbounded preceding
                    ) - pg_column_size(t.details) as bytes_before
                from public.%I as t
                where (t.epoch, t.tx, t.id) > ($1, $2, $3)
                    and (t.epoch < $4 or t.tx < pg_snapshot_xmin(pg_current_snapshot()))
                order by t.epoch, t.tx, t.id
                limit least($5, 10000)
            ),

            taken as (
                select
                    date_trunc('month', c.timestamp)::date as month, c.epoch, c.tx, c.id,
                    record_send(row(
                        c.id, c.user_uuid, c.event_type, c.timestamp, c.details,
                        c.ip_address, c.user_agent, c.severity, c.epoch, c.tx
                    )) as form
                from chosen as c
                where c.bytes_before <= 67108864
                offset 0
            )

            select
                null, null, month,
                (array_agg(epoch order by epoch, tx, id))[1],
                (array_agg(tx order by epoch, tx, id))[1],
                (array_agg(id order by epoch, tx, id))[1],
                (array_agg(epoch order by epoch, tx, id))[count(*)],
                (array_agg(tx order by epoch, tx, id))[count(*)],
                (array_agg(id order by epoch, tx, id))[count(*)],
                count(*),
                sha256(string_agg(
                    case when octet_length(form) < 1024 then form else sha256(form) end,
                    ''::bytea
                    order by epoch, tx, id
                )),
                string_agg(
                    int8send(id) || substr(sha256(form), 1, 8), ''::bytea
                    order by epoch, tx, id
                ),
                null, null, null
            from taken
            group by month
            order by 7, 8, 9
            $query$, chain
        ) using
            coalesce(head.last_epoch, 0), coalesce(head.last_tx, '0'::xid8),
            coalesce(head.last_id, 0), present, block_rows
        loop
            fresh.log := chain;
            fresh.number := coalesce(head.number, 0) + 1;
            fresh.previous_hash := coalesce(head.hash, decode(repeat('00', 32), 'hex'));
            fresh.sealed_at := clock_timestamp();
            fresh.hash := public.trail_block_hash(fresh);
            insert into public.trail_blocks select fresh.*;
            sealed := sealed + fresh.row_count;
            head := fresh;
        end loop;
    end loop;
    return sealed;
end
$$;

comment on function public.seal_trail(integer) is
'Seals what has committed into blocks of the hash chain; returns the number of rows.';
