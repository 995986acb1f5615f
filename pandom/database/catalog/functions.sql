-- What a function may do beyond its caller, and a digest of what it does.
-- Functions of extensions are their extension's; those have no digest.
select
    'function' as kind,
    replace(p.oid::regprocedure::text, ',', ', ') as object,
    f.detail,
    f.value
from pg_catalog.pg_proc as p
inner join pg_catalog.pg_language as l on p.prolang = l.oid
cross join lateral (
    values
    ('security', case when p.prosecdef then 'definer' else 'invoker' end),
    ('settings', coalesce(array_to_string(p.proconfig, ', '), '')),
    ('leakproof', p.proleakproof::text),
    ('language', l.lanname),
    (
        'body',
        left(encode(sha256(convert_to(
            concat_ws(
                ' ', p.provolatile, p.proparallel, p.proisstrict, p.prokind,
                pg_get_function_result(p.oid), pg_get_function_arguments(p.oid),
                coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
            ),
            'UTF8'
        )), 'hex'), 16)
    )
) as f (detail, value)
where p.oid >= 16384 and p.prokind <> 'a'
    and not exists (
        select
        from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
            and d.deptype = 'e'
    );
