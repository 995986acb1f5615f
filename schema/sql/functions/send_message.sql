-- Puts a message into the outbox, in place of an older one of its kind.
--
-- A mailbox gets only so many of a kind within message_window, whoever asks for them; the
-- token of the last one that was sent stays good.
set local role pandom_definer;

create or replace function public.send_message(
    kind text, email text, token text, lifetime interval
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    rules public.account_settings;
begin
    select s.* into strict rules from public.account_settings as s;
    if public.call_refused(
        'message ' || send_message.kind, lower(send_message.email),
        rules.messages_per_mailbox, rules.message_window, null, null
    ) is not null
    then
        return;
    end if;
    delete from public.outbox as o
    where lower(o.email) = lower(send_message.email) and o.kind = send_message.kind;
    insert into public.outbox (kind, email, token, expires_at)
    values (
        send_message.kind, send_message.email, send_message.token,
        current_timestamp + send_message.lifetime
    );
end
$$;

comment on function public.send_message(text, text, text, interval) is
'Puts a message into the outbox, in place of an older one of its kind.';
