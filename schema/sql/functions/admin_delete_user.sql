-- Deletes a user on behalf of an administrator; the trail keeps its name.
--
-- Returns whether there was such a user. Errors: the caller is no administrator, or
-- would delete itself.
set local role pandom_definer;

create or replace function public.admin_delete_user(user_uuid uuid)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.require_admin();
begin
    if actor = admin_delete_user.user_uuid then
        raise exception 'an administrator cannot delete itself here; use delete_account()'
            using errcode = 'invalid_parameter_value';
    end if;
    delete from public.auth_users as u where u.uuid = admin_delete_user.user_uuid;
    if not found then
        return false;
    end if;
    perform public.write_event(
        'security_logs', actor, 'user_deleted', 'warning',
        jsonb_build_object('subject', admin_delete_user.user_uuid)
    );
    return true;
end
$$;

comment on function public.admin_delete_user(uuid) is
'Deletes a user on behalf of an administrator.';
