-- A deleted user takes its profile along.
set local role pandom_owner;

create or replace trigger delete_auth_users_profile
after delete on public.auth_users
for each row when (old.profile_uuid is not null)
execute function public.delete_profile_of_user();

comment on trigger delete_auth_users_profile on public.auth_users is
'A deleted user takes its profile along.';
