-- The marks of one block, and those of the rows that are there now: they name the rows.
select
    b.row_marks as sealed,
    coalesce(
        (
            select
                string_agg(
                    int8send(t.id)
                    || substr(sha256(record_send(row(
                        t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
                        t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
                    ))), 1, 8),
                    ''::bytea
                    order by t.epoch, t.tx, t.id
                )
            from public.{log} as t
            where t.timestamp >= b.month::timestamptz
                and t.timestamp < b.month::timestamptz + interval '1 month'
                and (t.epoch, t.tx, t.id) >= (b.first_epoch, b.first_tx, b.first_id)
                and (t.epoch, t.tx, t.id) <= (b.last_epoch, b.last_tx, b.last_id)
        ),
        ''::bytea
    ) as found
from public.trail_blocks as b
where b.log = %(log)s and b.number = %(number)s;
