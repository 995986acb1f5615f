-- The rows of one block in the form in which they were sealed before revision 0007: whole.
--
-- For the rare block with large rows. The caller fetches and hashes them one by one, so that
-- neither side needs more memory than for one row.
select
    record_send(row(
        t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
        t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
    )) as form
from public.trail_blocks as b
inner join public.{log} as t
    on t.timestamp >= b.month::timestamptz
    and t.timestamp < b.month::timestamptz + interval '1 month'
    and (t.epoch, t.tx, t.id) >= (b.first_epoch, b.first_tx, b.first_id)
    and (t.epoch, t.tx, t.id) <= (b.last_epoch, b.last_tx, b.last_id)
where b.log = %(log)s and b.number = %(number)s
order by t.epoch, t.tx, t.id;
