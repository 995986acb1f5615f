-- Made from schema/models.py by `pandom docs`.
-- What pandom_admin reaches.
set local role pandom_owner;

drop policy if exists administrator on public.auth_users;
create policy administrator on public.auth_users
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.auth_users is
'An active administrator sees every row.';
