-- Deletes a user's profile together with the user.
set local role pandom_definer;

create or replace function public.delete_profile_of_user()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.user_profiles as p
    where p.uuid = old.profile_uuid;
    return null;
end
$$;

comment on function public.delete_profile_of_user() is
'Trigger: deletes the profile of a deleted user.';
