-- Made from schema/models.py by `pandom docs`.
-- What pandom_service reaches.
set local role pandom_owner;

drop policy if exists service on public.sessions;
create policy service on public.sessions
for all to pandom_service
using (true)
with check (true);

comment on policy service on public.sessions is
'The opt-in login for clients without a context reaches every row.';
