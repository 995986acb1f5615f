-- Sets a new password by a reset token.
--
-- Returns whether the token was good. Ends all sessions of the user, verifies the
-- e-mail (its holder had the token) and forgives failed attempts. Errors: a new password
-- out of bounds; too many calls from this address or on the server.
set local role pandom_definer;

create or replace function public.complete_password_reset(
    token text, new_password text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    account record;
begin
    perform public.limit_requests('verifications');
    select u.uuid, u.email into account
    from public.auth_users as u
    where u.reset_token = public.token_digest(complete_password_reset.token)
        and u.reset_token_expiry > current_timestamp
        and u.is_active
    for no key update;
    if not found then
        return false;
    end if;
    perform public.set_password(
        account.uuid, complete_password_reset.new_password, complete_password_reset.hash_key
    );
    update public.auth_users as u
    set is_verified = true, verification_token = null, verification_expires = null
    where u.uuid = account.uuid and not u.is_verified;
    delete from public.sign_in_attempts as a
    where a.email_digest = sha256(convert_to(lower(account.email), 'UTF8'));
    perform public.send_message('password_changed', account.email, null, interval '7 days');
    perform public.write_event(
        'security_logs', account.uuid, 'password_reset', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.complete_password_reset(text, text, text) is
'Sets a new password by a reset token; whether the token was good.';
