-- Sends a reset token to the holder of an e-mail (P3).
--
-- Returns nothing, whether or not the e-mail exists. A second request within a
-- minute sends nothing new, so that nobody can flood a mailbox.
set local role pandom_definer;

create or replace function public.request_password_reset(email text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    token constant text := public.new_token();
    lifetime interval;
    account record;
begin
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    update public.auth_users as u
    set reset_token = public.token_digest(token),
        reset_token_expiry = current_timestamp + lifetime
    where lower(u.email) = lower(request_password_reset.email)
        and u.is_active
        and (
            u.reset_token_expiry is null
            or u.reset_token_expiry < current_timestamp + lifetime - interval '1 minute'
        )
    returning u.uuid, u.email into account;
    if found then
        perform public.send_message('reset_password', account.email, token, lifetime);
        perform public.write_event(
            'security_logs', account.uuid, 'password_reset_requested', 'info', '{}'
        );
    end if;
end
$$;

comment on function public.request_password_reset(text) is
'Sends a reset token to the holder of an e-mail; says nothing about who exists. P3';
