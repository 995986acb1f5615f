set local role pandom_owner;

create or replace trigger audit_users_trigger_truncate
after truncate on public.auth_users
for each statement execute function public.audit_trigger_function();

comment on trigger audit_users_trigger_truncate on public.auth_users is
'A truncate of auth_users enters the trail as critical. P4';
