-- Ends the session of a token, and its user's refresh token.
--
-- Returns whether there was such a session.
set local role pandom_definer;

create or replace function public.sign_out(session_token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    owner uuid;
begin
    delete from public.sessions as s
    where s.token = public.token_digest(sign_out.session_token)
    returning s.user_uuid into owner;
    if not found then
        return false;
    end if;
    update public.auth_users as u
    set refresh_token = null, refresh_token_expires = null
    where u.uuid = owner and u.refresh_token is not null;
    perform public.write_event('audit_logs', owner, 'session_ended', 'info', '{}');
    return true;
end
$$;

comment on function public.sign_out(text) is
'Ends the session of a token; whether there was one.';
