-- Made from schema/models.py by `pandom docs`.
-- A truncate of auth_users enters the trail as critical.
set local role pandom_owner;

create or replace trigger audit_users_trigger_truncate
after truncate on public.auth_users
for each statement execute function public.audit_auth_users();

comment on trigger audit_users_trigger_truncate on public.auth_users is
'A truncate of auth_users enters the trail as critical.';
