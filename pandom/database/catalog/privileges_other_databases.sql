-- What PUBLIC may do with the other databases of the cluster: it should be nothing.
select
    'privilege' as kind,
    'database ' || quote_ident(d.datname) as object,
    'PUBLIC' as detail,
    string_agg(a.privilege_type, ', ' order by a.privilege_type) as value
from pg_catalog.pg_database as d
cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
-- template0 accepts no connection, and nobody should change it.
where a.grantee = 0 and d.datname <> current_database() and d.datallowconn
group by d.oid, d.datname;
