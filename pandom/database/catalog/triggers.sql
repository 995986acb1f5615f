-- Triggers and whether they fire; of internal ones (foreign keys) only those that do not.
select
    'trigger' as kind,
    case when t.tgisinternal then 'foreign key ' || quote_ident(t.tgname) else quote_ident(t.tgname) end
    || ' on ' || t.tgrelid::regclass as object,
    f.detail,
    f.value
from pg_catalog.pg_trigger as t
cross join lateral (
    values
    (
        'fires',
        case t.tgenabled
            when 'O' then 'normally'
            when 'A' then 'always'
            when 'R' then 'in replicas only'
            else 'never'
        end
    ),
    ('definition', case when not t.tgisinternal then pg_get_triggerdef(t.oid) end)
) as f (detail, value)
where f.value is not null and (not t.tgisinternal or t.tgenabled <> 'O');
