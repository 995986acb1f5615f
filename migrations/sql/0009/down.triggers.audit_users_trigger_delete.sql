set local role pandom_owner;

create or replace trigger audit_users_trigger_delete
after delete on public.auth_users
referencing old table as old_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_users_trigger_delete on public.auth_users is
'Every delete on auth_users enters the trail. P4';
