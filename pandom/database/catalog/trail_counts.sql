-- How many rows are older than the head of the chain, and what is not sealed yet.
with head as (
    select b.last_epoch, b.last_tx, b.last_id
    from public.trail_blocks as b
    where b.log = %(log)s
    order by b.number desc
    limit 1
)

select
    (
        select count(*)
        from public.{log} as t
        where exists (
            select from head as h where (t.epoch, t.tx, t.id) <= (h.last_epoch, h.last_tx, h.last_id)
        )
    ) as within,
    (
        select count(*)
        from public.{log} as t
        where not exists (
            select from head as h where (t.epoch, t.tx, t.id) <= (h.last_epoch, h.last_tx, h.last_id)
        )
    ) as waiting,
    (
        select extract(epoch from now() - min(t.timestamp))
        from public.{log} as t
        where not exists (
            select from head as h where (t.epoch, t.tx, t.id) <= (h.last_epoch, h.last_tx, h.last_id)
        )
    ) as waiting_s;
