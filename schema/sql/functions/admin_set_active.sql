-- Activates or deactivates a user on behalf of an administrator.
--
-- Returns whether there is such a user. Errors: the caller is no administrator, or
-- would deactivate itself.
set local role pandom_definer;

create or replace function public.admin_set_active(user_uuid uuid, active boolean)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    if public.require_admin() = admin_set_active.user_uuid and not admin_set_active.active then
        raise exception 'an administrator cannot deactivate itself'
            using errcode = 'invalid_parameter_value';
    end if;
    update public.auth_users as u
    set is_active = admin_set_active.active
    where u.uuid = admin_set_active.user_uuid;
    return found;
end
$$;

comment on function public.admin_set_active(uuid, boolean) is
'Activates or deactivates a user on behalf of an administrator.';
