-- Made from schema/models.py by `pandom docs`.
-- What pandom_app reaches.
set local role pandom_trail;

drop policy if exists user_isolation on public.security_logs;
create policy user_isolation on public.security_logs
for select to pandom_app
using (user_uuid = (select public.current_user_id()));

comment on policy user_isolation on public.security_logs is
'A user reaches its own rows only.';
