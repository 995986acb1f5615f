-- Memberships with their options; one edge for each grantor, as PostgreSQL 16 and later keep them.
-- What the initial superuser gave has no grantor's name, so that it may be called anything.
select
    'membership' as kind,
    g.rolname as object,
    m.rolname || case when a.grantor = 10 then '' else ' by ' || o.rolname end as detail,
    concat_ws(
        ', ',
        case when a.inherit_option then 'inherit' end,
        case when a.set_option then 'set' end,
        case when a.admin_option then 'admin' end
    ) as value
from pg_catalog.pg_auth_members as a
inner join pg_catalog.pg_roles as g on a.roleid = g.oid
inner join pg_catalog.pg_roles as m on a.member = m.oid
inner join pg_catalog.pg_roles as o on a.grantor = o.oid
-- pg_monitor's own three groups come with every cluster.
where a.member >= 16384 or g.oid >= 16384 or m.rolname !~ '^pg_';
