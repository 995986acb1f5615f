-- Exported rows in the form in which they were sealed; the same as in seal_trail().
select
    count(*) as row_count,
    sha256(string_agg(
        record_send(row(
            t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
            t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
        )), ''::bytea
        order by t.epoch, t.tx, t.id
    )) as digest
from unnest(%(lines)s::text[]) as l (line)
cross join lateral jsonb_populate_record(null::public.{log}, l.line::jsonb) as t;
