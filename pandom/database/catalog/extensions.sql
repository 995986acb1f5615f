-- Extensions and their schemas; their versions are the package's.
select 'extension' as kind, quote_ident(e.extname) as object, 'schema' as detail, n.nspname as value
from pg_catalog.pg_extension as e
inner join pg_catalog.pg_namespace as n on e.extnamespace = n.oid;
