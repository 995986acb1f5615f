-- Exported rows in the form in which they are sealed: the same as in seal_trail(). The
-- caller hashes them, and gives no more lines at once than the server should hold.
-- Blocks from before revision 0007 hold large rows whole, as with `whole`.
select
    case
        when f.whole or octet_length(f.form) < 1024 then f.form
        else sha256(f.form)
    end as form
from (
    select
        t.epoch,
        t.tx,
        t.id,
        %(whole)s::boolean as whole,
        record_send(row(
            t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
            t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
        )) as form
    from unnest(%(lines)s::text[]) as l (line)
    cross join lateral jsonb_populate_record(null::public.{log}, l.line::jsonb) as t
    offset 0
) as f
order by f.epoch, f.tx, f.id;
