-- Made from schema/models.py by `pandom docs`.
-- Every update on user_profiles enters the trail.
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_update
after update on public.user_profiles
referencing old table as old_rows new table as new_rows
for each statement execute function public.audit_user_profiles();

comment on trigger audit_profiles_trigger_update on public.user_profiles is
'Every update on user_profiles enters the trail.';
