-- Verifies an account, or a new e-mail of one, by the token sent there.
--
-- Returns whether the token was good. A token works once and expires. Error: too many
-- calls from this address or on the server.
set local role pandom_definer;

create or replace function public.verify_email(token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    digest constant text := public.token_digest(verify_email.token);
    account uuid;
    change public.email_changes;
    former text;
begin
    perform public.limit_requests('verifications');
    update public.auth_users as u
    set is_verified = true, verification_token = null, verification_expires = null
    where u.verification_token = digest
        and u.verification_expires > current_timestamp
        and u.is_active
    returning u.uuid into account;
    if found then
        perform public.write_event('audit_logs', account, 'user_verified', 'info', '{}');
        return true;
    end if;
    delete from public.email_changes as c
    where c.token = digest and c.expires_at > current_timestamp
    returning c.* into change;
    if not found then
        return false;
    end if;
    select u.email into former from public.auth_users as u where u.uuid = change.user_uuid;
    begin
        update public.auth_users as u
        set email = change.new_email, is_verified = true
        where u.uuid = change.user_uuid and u.is_active;
        if not found then
            return false;
        end if;
    exception
        when unique_violation then
            return false;
    end;
    perform public.send_message('email_changed', former, null, interval '7 days');
    perform public.write_event(
        'security_logs', change.user_uuid, 'email_changed', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.verify_email(text) is
'Verifies an account, or its new e-mail, by the token sent there.';
