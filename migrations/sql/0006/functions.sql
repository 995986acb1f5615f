-- The sealer, as schema/sql/functions had it at this revision.

-- The hash of a block: over its own columns and the hash of the block before (P5).
--
-- The auditor's check computes it with a query of its own, not with this function:
-- whoever could change the function could make any chain fit.
set local role pandom_trail;

create or replace function public.trail_block_hash(block public.trail_blocks)
returns bytea
language sql
stable
parallel safe
set search_path = ''
set client_encoding = 'UTF8'
return sha256(record_send(row(
    (block).log, (block).number, (block).month,
    (block).first_epoch, (block).first_tx, (block).first_id,
    (block).last_epoch, (block).last_tx, (block).last_id,
    (block).row_count, (block).rows_digest, (block).previous_hash, (block).sealed_at
)));

comment on function public.trail_block_hash(public.trail_blocks) is
'The hash of a block: over its columns and the hash of the block before. P5';

-- Seals what has committed since the last call into blocks of the hash chain (P5).
--
-- Writers never wait: they append, and this comes after them. A row is taken when its
-- transaction is older than every one that still runs, so that nothing can appear
-- later among what is sealed; rows of earlier epochs are always old enough. Rows are
-- ordered by (epoch, tx, id) and split by month, and a chain has one writer at a time.
-- One call takes at most block_rows rows of each table; returns how many it sealed.
-- A row is taken in its binary form, which has lengths and no settings in it but the
-- encoding; the same as in pandom/database/catalog/trail_rows.sql. The two planner settings
-- make it read the index in its order: the statistics of a young partition would make
-- it sort the whole month for each batch. What they make look dear would be compiled,
-- two seconds each time, so jit is off.
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
    if not pg_try_advisory_xact_lock(hashtextextended('public.seal_trail', 0)) then
        return 0;
    end if;
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
            with taken as (
                select
                    date_trunc('month', t.timestamp)::date as month, t.epoch, t.tx, t.id,
                    record_send(row(
                        t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
                        t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
                    )) as line
                from public.%I as t
                where (t.epoch, t.tx, t.id) > ($1, $2, $3)
                    and (t.epoch < $4 or t.tx < pg_snapshot_xmin(pg_current_snapshot()))
                order by t.epoch, t.tx, t.id
                limit $5
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
                sha256(string_agg(line, ''::bytea order by epoch, tx, id)),
                string_agg(
                    int8send(id) || substr(sha256(line), 1, 8), ''::bytea
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
'Seals what has committed into blocks of the hash chain; returns the number of rows. P5';
