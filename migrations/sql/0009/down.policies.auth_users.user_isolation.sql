set local role pandom_owner;

drop policy if exists user_isolation on public.auth_users;
create policy user_isolation on public.auth_users
for all to pandom_app
using (uuid = (select public.current_user_id()))
with check (uuid = (select public.current_user_id()));

comment on policy user_isolation on public.auth_users is
'A user reaches its own account only. P2';
