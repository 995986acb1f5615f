-- The client's address as the application stated it, or null.
--
-- A malformed value becomes null: a proxy's odd header must not stop a sign-in.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_definer;

create or replace function public.client_address()
returns inet
language sql
stable
parallel safe
return case
    when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
        then nullif(current_setting('app.client_ip', true), '')::inet
end;

comment on function public.client_address() is
'The client''s address from app.client_ip; null when unset or malformed.';
