-- Whoever changes a role or deactivates an account leaves a trace and ends sessions.
set local role pandom_definer;

create or replace function public.watch_account()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
begin
    if old.role is distinct from new.role then
        perform public.write_event(
            'security_logs', actor, 'role_changed', 'warning',
            jsonb_build_object('subject', new.uuid, 'role', array[old.role, new.role])
        );
    end if;
    if old.is_active is distinct from new.is_active then
        perform public.write_event(
            'security_logs', actor,
            case when new.is_active then 'user_reactivated' else 'user_deactivated' end,
            'warning', jsonb_build_object('subject', new.uuid)
        );
    end if;
    if not new.is_active and old.is_active then
        delete from public.sessions as s where s.user_uuid = new.uuid;
        update public.auth_users as u
        set refresh_token = null, refresh_token_expires = null
        where u.uuid = new.uuid and u.refresh_token is not null;
    end if;
    return null;
end
$$;

comment on function public.watch_account() is
'Trigger: traces role changes and deactivations, ends the sessions of the latter.';
