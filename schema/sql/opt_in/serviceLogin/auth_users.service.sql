-- Made from schema/models.py by `pandom docs`.
-- What pandom_service reaches.
set local role pandom_owner;

drop policy if exists service on public.auth_users;
create policy service on public.auth_users
for all to pandom_service
using (true)
with check (true);

comment on policy service on public.auth_users is
'The opt-in login for clients without a context reaches every row.';
