-- Opens the transaction's context for the holder of a session token.
--
-- Call it first in every transaction. It sets app.current_user_id and, signed, what
-- current_user_id() checks where contexts are enforced: user, session, backend and
-- transaction timestamp. Returns the user, or null when the token is unknown or
-- expired or its user inactive; that is recorded and sets no context.
set local role pandom_definer;

create or replace function public.begin_context(session_token text)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
    opened record;
begin
    select s.user_uuid, s.id::text as session_id, k.secret into opened
    from public.sessions as s
    inner join public.auth_users as u on s.user_uuid = u.uuid
    cross join public.context_key as k
    where s.token = encode(sha256(convert_to(begin_context.session_token, 'UTF8')), 'hex')
        and s.expires_at > current_timestamp
        and u.is_active;
    if not found then
        perform set_config('app.current_user_id', '', true);
        perform set_config('app.context_signature', '', true);
        perform public.note_refusal('security_logs', null, 'context_rejected');
        return null;
    end if;
    perform
        set_config('app.current_user_id', opened.user_uuid::text, true),
        set_config('app.session_id', opened.session_id, true),
        set_config(
            'app.context_signature',
            public.context_signature(opened.secret, opened.user_uuid, opened.session_id),
            true
        );
    return opened.user_uuid;
end
$$;

comment on function public.begin_context(text) is
'Opens the transaction''s context for the holder of a session token, signed.';
