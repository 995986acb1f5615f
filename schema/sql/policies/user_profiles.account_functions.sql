-- Made from schema/models.py by `pandom docs`.
-- What pandom_definer reaches.
set local role pandom_owner;

drop policy if exists account_functions on public.user_profiles;
create policy account_functions on public.user_profiles
for all to pandom_definer
using (true)
with check (true);

comment on policy account_functions on public.user_profiles is
'The account functions reach every row and check for themselves.';
