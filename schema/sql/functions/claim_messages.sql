-- Hands outgoing messages, with their tokens in clear, to the mailer (P3).
--
-- A claimed message is hidden for five minutes; finish_message() removes it. One
-- that the mailer lost on the way appears again.
set local role pandom_definer;

create or replace function public.claim_messages(batch_size integer default 100)
returns table (id bigint, kind text, email text, token text, expires_at timestamptz)
language sql
security definer
set search_path = ''
begin atomic
    update public.outbox as o
    set claimed_until = current_timestamp + interval '5 minutes'
    where
        o.id in (
            select e.id
            from public.outbox as e
            where
                e.expires_at > current_timestamp
                and (e.claimed_until is null or e.claimed_until < current_timestamp)
            order by e.id
            limit claim_messages.batch_size
            for update skip locked
        )
    returning o.id, o.kind::text, o.email::text, o.token, o.expires_at;
end;

comment on function public.claim_messages(integer) is
'Hands outgoing messages with their tokens to the mailer. P3';
