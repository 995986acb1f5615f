-- Opens a session and a refresh token for a user.
--
-- Both tokens leave the database here, once, in clear; it keeps their digests.
set local role pandom_definer;

create or replace function public.open_session(
    user_uuid uuid,
    out session_token text,
    out session_expires_at timestamptz,
    out refresh_token text,
    out refresh_expires_at timestamptz
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules public.account_settings;
begin
    select s.* into strict rules from public.account_settings as s;
    session_token := public.new_token();
    session_expires_at := current_timestamp + rules.session_lifetime;
    refresh_token := public.new_token();
    refresh_expires_at := current_timestamp + rules.refresh_lifetime;
    insert into public.sessions (user_uuid, token, expires_at, ip_address, user_agent)
    values (
        open_session.user_uuid, public.token_digest(open_session.session_token),
        open_session.session_expires_at, public.client_address(), public.client_agent()
    );
    update public.auth_users as u
    set last_login_at = current_timestamp,
        refresh_token = public.token_digest(open_session.refresh_token),
        refresh_token_expires = open_session.refresh_expires_at
    where u.uuid = open_session.user_uuid;
end
$$;

comment on function public.open_session(uuid) is
'Opens a session and a refresh token; the tokens leave the database once.';
