-- The chain of one table: each block's own hash, and the hash that it says came before.
--
-- Everything is computed here from the columns; no function of the database is asked.
select
    b.number,
    b.month,
    b.row_count,
    b.first_epoch,
    b.first_tx::text,
    b.first_id,
    b.last_epoch,
    b.last_tx::text,
    b.last_id,
    b.rows_digest,
    encode(b.hash, 'hex') as hash,
    b.sealed_at,
    b.previous_hash = lag(b.hash, 1, decode(repeat('00', 32), 'hex')) over chain as linked,
    b.number = coalesce(lag(b.number) over chain, 0) + 1 as consecutive,
    coalesce(
        (lag(b.last_epoch) over chain, lag(b.last_tx) over chain, lag(b.last_id) over chain)
        < (b.last_epoch, b.last_tx, b.last_id),
        true
    ) as ascending,
    b.hash = sha256(record_send(row(
        b.log, b.number, b.month, b.first_epoch, b.first_tx, b.first_id,
        b.last_epoch, b.last_tx, b.last_id, b.row_count, b.rows_digest,
        b.previous_hash, b.sealed_at
    ))) as genuine
from public.trail_blocks as b
where b.log = %(log)s
window chain as (order by b.number)
order by b.number;
