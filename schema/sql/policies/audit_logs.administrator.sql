-- Administrators see every event, in a role of their own (P2).
set local role pandom_trail;

drop policy if exists administrator on public.audit_logs;
create policy administrator on public.audit_logs
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.audit_logs is
'An active administrator sees every event. P2';
