-- What begin_context() signs: user, session, backend and transaction.
--
-- The transaction's timestamp makes a replay in a later transaction worthless,
-- the backend's number one on another connection. Only the definer, who alone
-- reads the key, may call it.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_definer;

create or replace function public.context_signature(
    secret bytea, user_uuid uuid, session_id text
)
returns text
language sql
stable
parallel safe
return encode(
    public.hmac(
        uuid_send(user_uuid)
        || int4send(pg_backend_pid())
        || timestamptz_send(transaction_timestamp())
        || convert_to(session_id, 'UTF8'),
        secret,
        'sha256'
    ),
    'hex'
);

comment on function public.context_signature(bytea, uuid, text) is
'HMAC over user, backend, transaction timestamp and session; the key is the caller''s.';
