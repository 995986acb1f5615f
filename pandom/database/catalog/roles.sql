-- Attributes and comment of every role that PostgreSQL did not make itself.
select 'role' as kind, r.rolname as object, a.detail, a.value
from pg_catalog.pg_roles as r
cross join lateral (
    values
    ('superuser', r.rolsuper::text),
    ('login', r.rolcanlogin::text),
    ('inherit', r.rolinherit::text),
    ('create role', r.rolcreaterole::text),
    ('create database', r.rolcreatedb::text),
    ('replication', r.rolreplication::text),
    ('bypass row security', r.rolbypassrls::text),
    ('connection limit', r.rolconnlimit::text),
    ('valid until', coalesce(nullif(r.rolvaliduntil, 'infinity')::text, 'always')),
    ('comment', coalesce(shobj_description(r.oid, 'pg_authid'), ''))
) as a (detail, value)
where r.oid >= 16384 or r.rolname !~ '^pg_';
