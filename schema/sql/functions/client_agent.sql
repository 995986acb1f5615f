-- The client's user agent as the application stated it, cut to 512 characters.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_definer;

create or replace function public.client_agent()
returns text
language sql
stable
parallel safe
return nullif(left(current_setting('app.user_agent', true), 512), '');

comment on function public.client_agent() is
'The client''s user agent from app.user_agent, cut to 512 characters.';
