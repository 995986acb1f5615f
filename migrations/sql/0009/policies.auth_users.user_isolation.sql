-- Made from schema/models.py by `pandom docs`.
-- What pandom_app reaches.
set local role pandom_owner;

drop policy if exists user_isolation on public.auth_users;
create policy user_isolation on public.auth_users
for select to pandom_app
using (uuid = (select public.current_user_id()));

comment on policy user_isolation on public.auth_users is
'A user reaches its own rows only.';
