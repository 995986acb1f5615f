-- Puts the limit of an event's size on a table of the trail, and validates it if it can.
--
-- Rows of an older revision may be larger and are not edited: then the limit holds for new
-- rows only. Returns whether it holds for all. partition names a table that becomes one;
-- null is the trail's table itself.
set local role pandom_trail;

create or replace function public.limit_details(log text, partition text default null)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    place constant text := coalesce(limit_details.partition, limit_details.log);
    rule constant text := 'ck_' || limit_details.log || '_details';
begin
    if not exists (
        select from pg_catalog.pg_constraint as c
        where c.conrelid = format('public.%I', place)::regclass and c.conname = rule
    ) then
        execute format(
            'alter table public.%I add constraint %I check (jsonb_typeof(details) = ''object'' '
            'and pg_column_size(details) <= 1048576 and octet_length(user_agent) <= 2048) '
            'not valid', place, rule
        );
    end if;
    begin
        execute format('alter table public.%I validate constraint %I', place, rule);
    exception
        when check_violation then return false;
    end;
    return true;
end
$$;

comment on function public.limit_details(text, text) is
'Puts the limit of an event''s size on a table of the trail; whether all rows keep it.';
