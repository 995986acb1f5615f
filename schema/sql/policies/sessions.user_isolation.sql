-- Made from schema/models.py by `pandom docs`.
-- What pandom_app reaches.
set local role pandom_owner;

drop policy if exists user_isolation on public.sessions;
create policy user_isolation on public.sessions
for all to pandom_app
using (user_uuid = (select public.current_user_id()))
with check (user_uuid = (select public.current_user_id()));

comment on policy user_isolation on public.sessions is
'A user reaches its own rows only.';
