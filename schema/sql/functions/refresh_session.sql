-- Exchanges a refresh token for a new session and a new refresh token.
--
-- Returns one row, or none when the token is unknown, used, expired, or its user
-- inactive. A refresh token works once. Error: too many refreshes of this user.
set local role pandom_definer;

create or replace function public.refresh_session(refresh_token text)
returns table (
    user_uuid uuid,
    session_token text,
    session_expires_at timestamptz,
    new_refresh_token text,
    refresh_expires_at timestamptz
)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    owner uuid;
    rules public.account_settings;
    refused text;
begin
    select u.uuid into owner
    from public.auth_users as u
    where u.refresh_token = public.token_digest(refresh_session.refresh_token)
        and u.refresh_token_expires > current_timestamp
        and u.is_active
    for no key update;
    if not found then
        return;
    end if;
    select s.* into strict rules from public.account_settings as s;
    refused := public.call_refused(
        'refreshes', owner::text, rules.refreshes_per_user, rules.request_window, null, null
    );
    if refused is not null then
        raise exception 'too many refreshes: %', refused
            using errcode = 'configuration_limit_exceeded',
            hint = 'Use the session until it expires. Limits are columns of '
            'public.account_settings.';
    end if;
    perform public.write_event('audit_logs', owner, 'session_refreshed', 'info', '{}');
    return query
    select owner, o.* from public.open_session(owner) as o;
end
$$;

comment on function public.refresh_session(text) is
'Exchanges a refresh token, once, for a new session and refresh token.';
