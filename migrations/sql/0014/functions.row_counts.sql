-- How many rows each table of the owner has, as the caller's transaction sees them.
--
-- A drill compares them with those of the restored copy; it reads no row.
set local role pandom_owner;

create or replace function public.row_counts(out table_name text, out row_count bigint)
returns setof record
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    for row_counts.table_name in
        select c.relname::text
        from pg_catalog.pg_class as c
        where c.relnamespace = 'public'::regnamespace
            and c.relkind in ('r', 'p') and not c.relispartition
            and c.relowner = 'pandom_owner'::regrole
        order by c.relname
    loop
        execute format('select count(*) from public.%I', row_counts.table_name)
        into row_counts.row_count;
        return next;
    end loop;
end
$$;

comment on function public.row_counts() is
'How many rows each table of the owner has.';
