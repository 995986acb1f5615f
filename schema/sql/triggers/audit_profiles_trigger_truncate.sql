-- Made from schema/models.py by `pandom docs`.
-- A truncate of user_profiles enters the trail as critical.
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_truncate
after truncate on public.user_profiles
for each statement execute function public.audit_user_profiles();

comment on trigger audit_profiles_trigger_truncate on public.user_profiles is
'A truncate of user_profiles enters the trail as critical.';
