-- A user sees the events of its own only (P2). The sub-select makes it one call per query.
set local role pandom_trail;

drop policy if exists user_isolation on public.security_logs;
create policy user_isolation on public.security_logs
for select to pandom_app
using (user_uuid = (select public.current_user_id()));

comment on policy user_isolation on public.security_logs is
'A user sees its own events only. P2';
