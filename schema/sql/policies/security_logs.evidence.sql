-- The auditor reads the whole trail and nothing else of users (A7).
set local role pandom_trail;

drop policy if exists evidence on public.security_logs;
create policy evidence on public.security_logs
for select to pandom_auditor
using (true);

comment on policy evidence on public.security_logs is
'The auditor reads the whole trail. A7';
