-- Seals what has committed since the last call into blocks of the hash chain.
--
-- Writers never wait for it. A row is taken when its transaction is older than every
-- running one, so that no row can appear later among sealed ones; rows of earlier epochs
-- are always old enough. Rows are
-- ordered by (epoch, tx, id) and split by month, and a chain has one writer at a time.
-- One call takes at most block_rows rows of each table, and stops after 64 MB of them as
-- they are stored; returns how many it sealed. Compressed bytes count eightfold, because
-- little stored can be much work: pglz compresses repeated text to a ninetieth, lz4 to a
-- 255th. The total is asked first, which reads no value; a running sum, which costs small
-- events a sixth more, is made only if the total is too much.
-- A row is taken in its binary form, which has lengths and no settings in it but the
-- encoding; from 1 KiB on the SHA-256 of that form stands for it. That is made before rows
-- are sorted and gathered, so a block is made of at most 10 MB, whatever the rows hold, and
-- only one of them at a time is in memory. The same is in
-- pandom/database/catalog/trail_rows.sql.
-- Rows of one month need no sorting by month. If somebody deletes rows meanwhile, so that
-- another month is next, the next call seals them.
-- The chain's one writer is who holds the rows of trail_retention: a lock that no login of
-- an application can take. Error: lock_not_available, which names the holder.
-- The two planner settings
-- make it read the index in its order: the statistics of a young partition would make
-- it sort the whole month for each batch. What they make look dear would be compiled,
-- two seconds each time, so jit is off. That rows are old enough is an end of the index
-- scan, too: what waits for a long transaction is not read each time.
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
    stored constant text := 'pg_column_size(t.details) '
        '* case when pg_column_compression(t.details) is null then 1 else 8 end';
    chain text;
    present integer;
    head public.trail_blocks;
    fresh public.trail_blocks;
    sealed bigint := 0;
    settled xid8;
    unsealed text;
    batch bigint;
    bytes bigint;
    first_month date;
    last_month date;
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
    settled := pg_snapshot_xmin(pg_current_snapshot());
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
        unsealed := format(
            'from public.%I as t where (t.epoch, t.tx, t.id) > ($1, $2, $3) '
            'and (t.epoch, t.tx) < ($4, $5) order by t.epoch, t.tx, t.id limit $6', chain
        );
        execute format(
            $query$
            select
                count(*), sum(w.bytes),
                date_trunc('month', min(w.timestamp))::date,
                date_trunc('month', max(w.timestamp))::date
            from (select t.timestamp, %s as bytes %s) as w
            $query$, stored, unsealed
        ) into batch, bytes, first_month, last_month using
            coalesce(head.last_epoch, 0), coalesce(head.last_tx, '0'::xid8),
            coalesce(head.last_id, 0), present, settled, least(block_rows, 10000);
        continue when batch = 0;
        if bytes > 67108864 then
            execute format(
                $query$
                select count(*)
                from (
                    select
                        sum(w.bytes) over (rows unbounded preceding) - w.bytes as bytes_before
                    from (select %s as bytes %s) as w
                ) as s
                where s.bytes_before <= 67108864
                $query$, stored, unsealed
            ) into batch using
                coalesce(head.last_epoch, 0), coalesce(head.last_tx, '0'::xid8),
                coalesce(head.last_id, 0), present, settled, batch;
        end if;
        for fresh in execute format(
            $query$
            with taken as (
                select
                    t.epoch, t.tx, t.id, t.timestamp,
                    record_send(row(
                        t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
                        t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
                    )) as form
                %s
            ),

            hashed as (
                select
                    epoch, tx, id, timestamp,
                    case when octet_length(form) < 1024 then form else sha256(form) end as form,
                    int8send(id) || substr(sha256(form), 1, 8) as mark
                from taken
                order by epoch, tx, id
            )

            select
                null, null, coalesce($7, date_trunc('month', timestamp)::date),
                (array_agg(epoch order by epoch, tx, id))[1],
                (array_agg(tx order by epoch, tx, id))[1],
                (array_agg(id order by epoch, tx, id))[1],
                (array_agg(epoch order by epoch, tx, id))[count(*)],
                (array_agg(tx order by epoch, tx, id))[count(*)],
                (array_agg(id order by epoch, tx, id))[count(*)],
                count(*),
                sha256(string_agg(form, ''::bytea order by epoch, tx, id)),
                string_agg(mark, ''::bytea order by epoch, tx, id),
                null, null, null
            from hashed
            group by coalesce($7, date_trunc('month', timestamp)::date)
            having
                $7 is null
                or (min(timestamp) >= $7 and max(timestamp) < $7 + interval '1 month')
            order by 7, 8, 9
            $query$, unsealed
        ) using
            coalesce(head.last_epoch, 0), coalesce(head.last_tx, '0'::xid8),
            coalesce(head.last_id, 0), present, settled, batch,
            case when first_month = last_month then first_month end
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
