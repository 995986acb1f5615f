-- Every object that is not built in, with its owner and the extension that made it.
with objects (class, oid, name, owner) as (
    select o.class, o.oid, o.name, o.owner
    from (
        {objects}
    ) as o
    where o.oid >= 16384 or o.class <> 'pg_catalog.pg_tablespace'::regclass
    union all
    select
        'pg_catalog.pg_event_trigger'::regclass,
        oid,
        'event trigger ' || quote_ident(evtname),
        evtowner
    from pg_catalog.pg_event_trigger
    union all
    select
        'pg_catalog.pg_publication'::regclass, oid, 'publication ' || quote_ident(pubname), pubowner
    from pg_catalog.pg_publication
    union all
    select
        'pg_catalog.pg_subscription'::regclass,
        s.oid,
        'subscription ' || quote_ident(s.subname),
        s.subowner
    from pg_catalog.pg_subscription as s
    inner join pg_catalog.pg_database as d on s.subdbid = d.oid
    where d.datname = current_database()
    union all
    select
        'pg_catalog.pg_user_mapping'::regclass,
        u.umid,
        'user mapping for ' || case when u.umuser = 0 then 'public' else quote_ident(u.usename) end
        || ' server ' || quote_ident(u.srvname),
        s.srvowner
    from pg_catalog.pg_user_mappings as u
    inner join pg_catalog.pg_foreign_server as s on u.srvid = s.oid
)

select
    'owner' as kind,
    o.name as object,
    'owner' as detail,
    pg_get_userbyid(o.owner) || coalesce(' by extension ' || quote_ident(e.extname), '') as value
from objects as o
left join pg_catalog.pg_depend as d
    on o.class = d.classid and o.oid = d.objid and d.deptype = 'e'
    and d.refclassid = 'pg_catalog.pg_extension'::regclass
left join pg_catalog.pg_extension as e on d.refobjid = e.oid
-- The sequence of an identity column belongs to its table.
where not exists (
    select
    from pg_catalog.pg_depend as i
    where left(o.name, 9) = 'sequence ' and i.classid = 'pg_catalog.pg_class'::regclass
        and i.objid = o.oid and i.deptype = 'i'
);
