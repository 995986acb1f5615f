-- Puts a message into the outbox, in place of an older one of its kind (P3).
set local role pandom_definer;

create or replace function public.send_message(
    kind text, email text, token text, lifetime interval
)
returns void
language plpgsql
set search_path = ''
as $$
begin
    delete from public.outbox as o
    where o.kind = send_message.kind and o.email = send_message.email;
    insert into public.outbox (kind, email, token, expires_at)
    values (
        send_message.kind, send_message.email, send_message.token,
        current_timestamp + send_message.lifetime
    );
end
$$;

comment on function public.send_message(text, text, text, interval) is
'Puts a message into the outbox, in place of an older one of its kind. P3';
