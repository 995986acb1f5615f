-- Signs a user in by e-mail and password.
--
-- Returns one row, or none: for an unknown e-mail, a wrong password, an inactive or
-- unverified account and a throttled attempt alike. hash_key is needed where hashes
-- are encrypted. Writes login_succeeded, login_failed or login_throttled.
set local role pandom_definer;

create or replace function public.sign_in(email text, password text, hash_key text default null)
returns table (
    user_uuid uuid,
    session_token text,
    session_expires_at timestamptz,
    refresh_token text,
    refresh_expires_at timestamptz
)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    account public.auth_users;
    digest constant bytea := sha256(convert_to(lower(sign_in.email), 'UTF8'));
    address constant inet := coalesce(public.client_address(), '0.0.0.0'::inet);
    refusal text;
begin
    -- No account has an address that long.
    if digest is null or length(sign_in.email) > 255 then
        return;
    end if;
    if public.sign_in_locked(digest, address) then
        perform public.note_refusal('audit_logs', null, 'login_throttled');
        return;
    end if;
    select u.* into account
    from public.auth_users as u
    where lower(u.email) = lower(sign_in.email);
    refusal := case
        when not public.password_matches(account, sign_in.password, sign_in.hash_key)
            then 'credentials'
        when not account.is_active then 'inactive'
        when not account.is_verified then 'unverified'
    end;
    if refusal is not null then
        perform public.note_failed_attempt(digest, address);
        perform public.write_event(
            'audit_logs', null, 'login_failed', 'warning',
            jsonb_build_object('subject', account.uuid, 'reason', refusal)
        );
        return;
    end if;
    perform public.renew_password_hash(account, sign_in.password, sign_in.hash_key);
    insert into public.sign_in_attempts as a (email_digest, address, last_succeeded_at)
    values (digest, address, clock_timestamp())
    on conflict on constraint pk_sign_in_attempts do update
        set failures = 0, last_succeeded_at = excluded.last_succeeded_at;
    perform public.write_event('audit_logs', account.uuid, 'login_succeeded', 'info', '{}');
    return query
    select account.uuid, o.* from public.open_session(account.uuid) as o;
end
$$;

comment on function public.sign_in(text, text, text) is
'Signs a user in by e-mail and password; one row, or none whatever the reason.';
