-- The cost that a bcrypt hash says it has; null for *.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_definer;

create or replace function public.hash_cost(hash text)
returns integer
language sql
immutable
parallel safe
return case when hash ~ '^\$2a\$[0-9][0-9]\$' then substr(hash, 5, 2)::integer end;

comment on function public.hash_cost(text) is
'The cost that a bcrypt hash says it has; null for *.';
