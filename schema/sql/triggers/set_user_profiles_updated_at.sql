-- Made from schema/models.py by `pandom docs`.
-- updated_at of user_profiles is true whoever writes.
set local role pandom_owner;

create or replace trigger set_user_profiles_updated_at
before update on public.user_profiles
for each row execute function public.set_updated_at();

comment on trigger set_user_profiles_updated_at on public.user_profiles is
'updated_at of user_profiles is true whoever writes.';
