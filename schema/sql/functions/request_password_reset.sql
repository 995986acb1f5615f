-- Asks for a reset token to be sent to the holder of an e-mail.
--
-- Returns nothing and does the same work whether or not the e-mail exists: the address is
-- looked up when the mailer claims the message (claim_messages). Error: too many requests
-- from this address or on the server.
set local role pandom_definer;

create or replace function public.request_password_reset(email text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    lifetime interval;
begin
    perform public.limit_requests('resets');
    if request_password_reset.email is null or length(request_password_reset.email) > 255 then
        return;
    end if;
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    perform public.send_message(
        'reset_password', lower(request_password_reset.email), public.new_token(), lifetime
    );
    perform public.write_event(
        'security_logs',
        (
            select u.uuid from public.auth_users as u
            where lower(u.email) = lower(request_password_reset.email)
        ),
        'password_reset_requested', 'info', '{}'
    );
end
$$;

comment on function public.request_password_reset(text) is
'Sends a reset token to the holder of an e-mail; says nothing about who exists.';
