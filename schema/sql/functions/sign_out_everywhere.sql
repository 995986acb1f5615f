-- Ends every session of the current user, and its refresh token.
--
-- Returns how many sessions there were.
set local role pandom_definer;

create or replace function public.sign_out_everywhere()
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    ended bigint;
begin
    if actor is null then
        return 0;
    end if;
    delete from public.sessions as s where s.user_uuid = actor;
    get diagnostics ended = row_count;
    update public.auth_users as u
    set refresh_token = null, refresh_token_expires = null
    where u.uuid = actor and u.refresh_token is not null;
    if ended > 0 or found then
        perform public.write_event(
            'audit_logs', actor, 'session_ended', 'info', jsonb_build_object('sessions', ended)
        );
    end if;
    return ended;
end
$$;

comment on function public.sign_out_everywhere() is
'Ends every session of the current user; how many there were.';
