-- Every policy with its whole text, as PostgreSQL prints it.
select
    'policy' as kind,
    quote_ident(p.polname) || ' on ' || p.polrelid::regclass as object,
    f.detail,
    f.value
from pg_catalog.pg_policy as p
cross join lateral (
    values
    ('as', case when p.polpermissive then 'permissive' else 'restrictive' end),
    (
        'for',
        case p.polcmd
            when 'r' then 'select'
            when 'a' then 'insert'
            when 'w' then 'update'
            when 'd' then 'delete'
            else 'all'
        end
    ),
    (
        'to',
        (
            select
                string_agg(
                    case when r.oid = 0 then 'PUBLIC' else pg_get_userbyid(r.oid) end,
                    ', ' order by r.oid
                )
            from unnest(p.polroles) as r (oid)
        )
    ),
    ('using', coalesce(pg_get_expr(p.polqual, p.polrelid), '')),
    ('with check', coalesce(pg_get_expr(p.polwithcheck, p.polrelid), ''))
) as f (detail, value);
