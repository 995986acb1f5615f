-- Views: whether they ask for the reader's own rights, and a digest of their text.
select 'view' as kind, c.oid::regclass::text as object, f.detail, f.value
from pg_catalog.pg_class as c
cross join lateral (
    values
    (
        'rights of',
        case
            when c.relkind = 'v' and exists (
                select
                from pg_options_to_table(c.reloptions) as o
                where o.option_name = 'security_invoker'
                    and o.option_value::boolean
            ) then 'the reader'
            else 'its owner'
        end
    ),
    (
        'barrier',
        exists (
            select
            from pg_options_to_table(c.reloptions) as o
            where o.option_name = 'security_barrier' and o.option_value::boolean
        )::text
    ),
    ('text', left(encode(sha256(convert_to(pg_get_viewdef(c.oid), 'UTF8')), 'hex'), 16))
) as f (detail, value)
where c.relkind in ('v', 'm') and c.oid >= 16384;
