-- Made from schema/models.py by `pandom docs`.
-- What pandom_admin reaches.
set local role pandom_trail;

drop policy if exists administrator on public.audit_logs;
create policy administrator on public.audit_logs
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.audit_logs is
'An active administrator sees every row.';
