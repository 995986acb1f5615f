-- Every object that PostgreSQL did not bring along, and its owner: what is new or gone shows
-- here. What an extension made says so.
with objects (class, oid, name, owner) as (
    select
        'pg_catalog.pg_class'::regclass,
        c.oid,
        case c.relkind
            when 'v' then 'view '
            when 'm' then 'materialized view '
            when 'f' then 'foreign table '
            when 'S' then 'sequence '
            else 'table '
        end || c.oid::regclass,
        c.relowner
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid >= 16384
        and c.relpersistence <> 't'
        -- The sequence of an identity column is its table's.
        and not exists (
            select
            from pg_catalog.pg_depend as i
            where c.relkind = 'S' and i.classid = 'pg_catalog.pg_class'::regclass
                and i.objid = c.oid and i.deptype = 'i'
        )
    union all
    select
        'pg_catalog.pg_proc'::regclass,
        p.oid,
        case p.prokind when 'p' then 'procedure ' when 'a' then 'aggregate ' else 'function ' end
        || replace(p.oid::regprocedure::text, ',', ', '),
        p.proowner
    from pg_catalog.pg_proc as p
    where p.oid >= 16384
    union all
    select
        'pg_catalog.pg_type'::regclass,
        t.oid,
        case t.typtype when 'd' then 'domain ' else 'type ' end || t.oid::regtype,
        t.typowner
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_class as c on t.typrelid = c.oid
    -- Row types and array types follow their table or element; so does a multirange.
    where t.oid >= 16384 and t.typtype <> 'm'
        and (t.typrelid = 0 or c.relkind = 'c')
        and t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc
    union all
    select
        'pg_catalog.pg_namespace'::regclass, oid, 'schema ' || quote_ident(nspname), nspowner
    from pg_catalog.pg_namespace
    where nspname = 'public' or (oid >= 16384 and nspname !~ '^pg_(toast_)?temp_')
    union all
    select 'pg_catalog.pg_database'::regclass, oid, 'database ' || quote_ident(datname), datdba
    from pg_catalog.pg_database
    where datname = current_database()
    union all
    select 'pg_catalog.pg_language'::regclass, oid, 'language ' || quote_ident(lanname), lanowner
    from pg_catalog.pg_language
    where oid >= 16384
    union all
    select
        'pg_catalog.pg_foreign_data_wrapper'::regclass,
        oid,
        'foreign data wrapper ' || quote_ident(fdwname),
        fdwowner
    from pg_catalog.pg_foreign_data_wrapper
    union all
    select
        'pg_catalog.pg_foreign_server'::regclass,
        oid,
        'foreign server ' || quote_ident(srvname),
        srvowner
    from pg_catalog.pg_foreign_server
    union all
    select
        'pg_catalog.pg_tablespace'::regclass, oid, 'tablespace ' || quote_ident(spcname), spcowner
    from pg_catalog.pg_tablespace
    where oid >= 16384
    union all
    select 'pg_catalog.pg_largeobject'::regclass, oid, 'large object ' || oid, lomowner
    from pg_catalog.pg_largeobject_metadata
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
left join pg_catalog.pg_extension as e on d.refobjid = e.oid;
