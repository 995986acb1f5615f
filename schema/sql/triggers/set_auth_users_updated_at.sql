-- Made from schema/models.py by `pandom docs`.
-- updated_at of auth_users is true whoever writes.
set local role pandom_owner;

create or replace trigger set_auth_users_updated_at
before update on public.auth_users
for each row execute function public.set_updated_at();

comment on trigger set_auth_users_updated_at on public.auth_users is
'updated_at of auth_users is true whoever writes.';
