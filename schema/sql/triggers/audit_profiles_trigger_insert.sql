-- Made from schema/models.py by `pandom docs`.
-- Every insert on user_profiles enters the trail.
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_insert
after insert on public.user_profiles
referencing new table as new_rows
for each statement execute function public.audit_user_profiles();

comment on trigger audit_profiles_trigger_insert on public.user_profiles is
'Every insert on user_profiles enters the trail.';
