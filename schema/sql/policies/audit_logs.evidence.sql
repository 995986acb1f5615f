-- Made from schema/models.py by `pandom docs`.
-- What pandom_auditor reaches.
set local role pandom_trail;

drop policy if exists evidence on public.audit_logs;
create policy evidence on public.audit_logs
for select to pandom_auditor
using (true);

comment on policy evidence on public.audit_logs is
'The auditor reads every row.';
