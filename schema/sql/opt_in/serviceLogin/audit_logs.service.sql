-- Made from schema/models.py by `pandom docs`.
-- What pandom_service reaches.
set local role pandom_trail;

drop policy if exists service on public.audit_logs;
create policy service on public.audit_logs
for select to pandom_service
using (true);

comment on policy service on public.audit_logs is
'The opt-in login for clients without a context reaches every row.';
