-- Made from schema/models.py by `pandom docs`.
-- What pandom_trail reaches.
set local role pandom_trail;

drop policy if exists trail_maintenance on public.security_logs;
create policy trail_maintenance on public.security_logs
for all to pandom_trail
using (true)
with check (true);

comment on policy trail_maintenance on public.security_logs is
'The trail''s own functions write and retire rows.';
