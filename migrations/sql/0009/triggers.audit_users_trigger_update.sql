-- Made from schema/models.py by `pandom docs`.
-- Every update on auth_users enters the trail.
set local role pandom_owner;

create or replace trigger audit_users_trigger_update
after update on public.auth_users
referencing old table as old_rows new table as new_rows
for each statement execute function public.audit_auth_users();

comment on trigger audit_users_trigger_update on public.auth_users is
'Every update on auth_users enters the trail.';
