-- Changes a user's role on behalf of an administrator.
--
-- Returns whether there is such a user. Errors: the caller is no administrator, or
-- would take its own role away, so that at least one administrator remains.
set local role pandom_definer;

create or replace function public.admin_set_role(user_uuid uuid, role public.userrole)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    if public.require_admin() = admin_set_role.user_uuid and admin_set_role.role <> 'admin' then
        raise exception 'an administrator cannot take its own role away'
            using errcode = 'invalid_parameter_value';
    end if;
    update public.auth_users as u
    set role = admin_set_role.role
    where u.uuid = admin_set_role.user_uuid;
    return found;
end
$$;

comment on function public.admin_set_role(uuid, public.userrole) is
'Changes a user''s role on behalf of an administrator.';
