-- The rows of one table as they are now, against the blocks that sealed them.
--
-- Only blocks that do not match are returned. A row has the same form as in seal_trail(),
-- from 1 KiB on its SHA-256. Blocks from before revision 0007 hold such rows whole, which
-- trail_forms checks. The month's ends are computed once for a block.
select
    b.number,
    b.month,
    b.row_count,
    b.rows_digest,
    r.row_count as found
from (
    select
        number, month, row_count, rows_digest,
        first_epoch, first_tx, first_id, last_epoch, last_tx, last_id,
        month::timestamptz as since,
        month::timestamptz + interval '1 month' as until
    from public.trail_blocks
    where log = %(log)s
    order by number
) as b
cross join lateral (
    select
        count(*) as row_count,
        sha256(string_agg(
            case when octet_length(s.form) < 1024 then s.form else sha256(s.form) end,
            ''::bytea
            order by s.epoch, s.tx, s.id
        )) as digest
    from (
        select
            t.epoch,
            t.tx,
            t.id,
            record_send(row(
                t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
                t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
            )) as form
        from public.{log} as t
        where t.timestamp >= b.since
            and t.timestamp < b.until
            and (t.epoch, t.tx, t.id) >= (b.first_epoch, b.first_tx, b.first_id)
            and (t.epoch, t.tx, t.id) <= (b.last_epoch, b.last_tx, b.last_id)
        order by t.epoch, t.tx, t.id
    ) as s
) as r
where r.row_count <> b.row_count or r.digest is distinct from b.rows_digest
order by b.number;
