-- Made from schema/models.py by `pandom docs`.
-- What pandom_admin reaches.
set local role pandom_owner;

drop policy if exists administrator on public.user_profiles;
create policy administrator on public.user_profiles
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.user_profiles is
'An active administrator sees every row.';
