set local role pandom_owner;

create or replace trigger audit_profiles_trigger_delete
after delete on public.user_profiles
referencing old table as old_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_profiles_trigger_delete on public.user_profiles is
'Every delete on user_profiles enters the trail. P4';
