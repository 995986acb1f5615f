-- A partition's rows as JSON lines, in the order of their numbers, for export.
--
-- The text is canonical: times in UTC, whatever the session's settings.
set local role pandom_trail;

create or replace function public.read_partition(name text)
returns setof text
language plpgsql
stable
security definer
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
begin
    perform public.trail_partition(read_partition.name);
    return query execute format(
        'select to_jsonb(t)::text from public.%I as t order by t.id', read_partition.name
    );
end
$$;

comment on function public.read_partition(text) is
'A partition''s rows as canonical JSON lines, for export.';
