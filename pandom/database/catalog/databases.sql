-- How many may connect to this database, and whether anybody may copy it.
select 'database' as kind, quote_ident(d.datname) as object, a.detail, a.value
from pg_catalog.pg_database as d
cross join lateral (
    values
    ('connection limit', d.datconnlimit::text),
    ('template', d.datistemplate::text)
) as a (detail, value)
where d.datname = current_database();
