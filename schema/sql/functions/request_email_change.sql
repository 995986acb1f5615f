-- Sends a token to the new e-mail that the current user asks for.
--
-- The e-mail changes when verify_email() gets that token. Returns false without a
-- context, for a wrong password and for a throttled attempt; the same true whether or
-- not the new e-mail is taken: its holder gets a message that says so.
set local role pandom_definer;

create or replace function public.request_email_change(
    password text, new_email text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        request_email_change.password, request_email_change.hash_key
    );
    account constant public.auth_users := proof.account;
    token constant text := public.new_token();
    lifetime interval;
    taken text;
begin
    if not proof.confirmed then
        return false;
    end if;
    if request_email_change.new_email is null or length(request_email_change.new_email) > 255
        or request_email_change.new_email
        !~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'
    then
        raise exception 'this is not an e-mail address'
            using errcode = 'invalid_parameter_value';
    end if;
    select s.verification_lifetime into strict lifetime from public.account_settings as s;
    select u.email into taken
    from public.auth_users as u
    where lower(u.email) = lower(request_email_change.new_email) and u.uuid <> account.uuid;
    insert into public.email_changes as c (user_uuid, new_email, token, expires_at)
    values (
        account.uuid, request_email_change.new_email, public.token_digest(token),
        current_timestamp + lifetime
    )
    on conflict on constraint pk_email_changes do update
        set new_email = excluded.new_email,
            token = excluded.token,
            expires_at = excluded.expires_at;
    if taken is null then
        perform public.send_message(
            'confirm_new_email', request_email_change.new_email, token, lifetime
        );
    else
        perform public.send_message('already_registered', taken, null, lifetime);
    end if;
    perform public.write_event(
        'security_logs', account.uuid, 'email_change_requested', 'info', '{}'
    );
    return true;
end
$$;

comment on function public.request_email_change(text, text, text) is
'Sends a token to the new e-mail of the current user; verify_email() takes it.';
