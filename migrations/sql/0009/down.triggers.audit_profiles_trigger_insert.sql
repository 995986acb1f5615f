set local role pandom_owner;

create or replace trigger audit_profiles_trigger_insert
after insert on public.user_profiles
referencing new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_profiles_trigger_insert on public.user_profiles is
'Every insert on user_profiles enters the trail. P4';
