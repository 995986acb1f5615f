-- Made from schema/models.py by `pandom docs`.
-- Every insert on auth_users enters the trail.
set local role pandom_owner;

create or replace trigger audit_users_trigger_insert
after insert on public.auth_users
referencing new table as new_rows
for each statement execute function public.audit_auth_users();

comment on trigger audit_users_trigger_insert on public.auth_users is
'Every insert on auth_users enters the trail.';
