-- What ALTER ROLE ... SET fixes, in any database, and ALTER DATABASE ... SET in this one.
select
    'role setting' as kind,
    case
        when s.setrole = 0 and s.setdatabase = 0 then 'every role'
        when s.setrole = 0 then 'database ' || quote_ident(d.datname)
        when s.setdatabase = 0 then quote_ident(r.rolname)
        else quote_ident(r.rolname) || ' in database ' || quote_ident(d.datname)
    end as object,
    split_part(c.entry, '=', 1) as detail,
    substr(c.entry, strpos(c.entry, '=') + 1) as value
from pg_catalog.pg_db_role_setting as s
cross join lateral unnest(s.setconfig) as c (entry)
left join pg_catalog.pg_database as d on s.setdatabase = d.oid
left join pg_catalog.pg_roles as r on s.setrole = r.oid
where s.setrole <> 0 or s.setdatabase = 0 or d.datname = current_database();
