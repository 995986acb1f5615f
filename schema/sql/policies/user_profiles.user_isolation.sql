-- Made from schema/models.py by `pandom docs`.
-- What pandom_app reaches.
set local role pandom_owner;

drop policy if exists user_isolation on public.user_profiles;
create policy user_isolation on public.user_profiles
for all to pandom_app
using (uuid = (select public.current_profile_id()))
with check (uuid = (select public.current_profile_id()));

comment on policy user_isolation on public.user_profiles is
'A user reaches its own rows only.';
