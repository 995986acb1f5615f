-- Hands outgoing messages, with their tokens in clear, to the mailer.
--
-- A claimed message is hidden for five minutes; finish_message() removes it. One
-- that the mailer lost on the way appears again. Requests for a reset become messages
-- here: those of nobody's address go, and so does a second one within a minute.
set local role pandom_definer;

create or replace function public.claim_messages(batch_size integer default 100)
returns table (id bigint, kind text, email text, token text, expires_at timestamptz)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    lifetime interval;
begin
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    with asked as (
        select o.id, o.email, o.token
        from public.outbox as o
        where o.kind = 'reset_password' and o.claimed_until is null
        order by o.id
        limit 10 * claim_messages.batch_size
        for update skip locked
    ),

    issued as (
        update public.auth_users as u
        set reset_token = public.token_digest(a.token),
            reset_token_expiry = current_timestamp + lifetime
        from asked as a
        where lower(u.email) = lower(a.email)
            and u.is_active
            and (
                u.reset_token_expiry is null
                or u.reset_token_expiry < current_timestamp + lifetime - interval '1 minute'
            )
        returning a.id, u.email
    ),

    addressed as (
        update public.outbox as o
        set email = i.email
        from issued as i
        where o.id = i.id
    )

    delete from public.outbox as o
    using asked as a
    where o.id = a.id and a.id not in (select i.id from issued as i);
    return query
    update public.outbox as o
    set claimed_until = current_timestamp + interval '5 minutes'
    where
        o.id in (
            select e.id
            from public.outbox as e
            where
                e.expires_at > current_timestamp
                and (e.claimed_until is null or e.claimed_until < current_timestamp)
                and (
                    e.kind <> 'reset_password' or e.claimed_until is not null
                    or exists (
                        select from public.auth_users as u
                        where u.reset_token = public.token_digest(e.token)
                    )
                )
            order by e.id
            limit claim_messages.batch_size
            for update skip locked
        )
    returning o.id, o.kind::text, o.email::text, o.token, o.expires_at;
end
$$;

comment on function public.claim_messages(integer) is
'Hands outgoing messages with their tokens to the mailer.';
