-- Whether the current user is an active administrator.
--
-- The policies of pandom_admin ask it, so that entering the role by SET LOCAL
-- ROLE gives nothing to anybody else, nor to a former administrator.
set local role pandom_definer;

create or replace function public.current_user_is_admin()
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
begin
    return exists (
        select
        from public.auth_users as u
        where u.uuid = (select public.current_user_id())
            and u.is_active
            and u.role = 'admin'
    );
end
$$;

comment on function public.current_user_is_admin() is
'Whether the current user is an active administrator; policies of pandom_admin ask it.';
