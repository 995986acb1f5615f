-- The profile of the current user; the policy of user_profiles asks it.
set local role pandom_definer;

create or replace function public.current_profile_id()
returns uuid
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
begin
    return (
        select u.profile_uuid
        from public.auth_users as u
        where u.uuid = (select public.current_user_id())
    );
end
$$;

comment on function public.current_profile_id() is
'The profile of the current user, or null; the policy of user_profiles asks it.';
