-- A value of a row as an event holds it: whole, or its size and digest.
--
-- Values within the limits of schema/limits.py are always whole; rows of an older
-- revision may hold larger ones. Takes and returns the value's JSON text. The digest is
-- the SHA-256 of that text in UTF-8.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_trail;

create or replace function public.event_value(value text)
returns text
language sql
immutable
parallel safe
return case
    when value is null then 'null'
    when octet_length(value) <= 65536 then value
    else json_build_object(
        'omitted_bytes', octet_length(value),
        'sha256', encode(sha256(convert_to(value, 'UTF8')), 'hex')
    )::text
end;

comment on function public.event_value(text) is
'A value as an event holds it: whole, or its size and digest.';
