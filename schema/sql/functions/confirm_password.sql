-- Whether the current user knows its password; failures count as failed sign-ins.
--
-- A stolen session must not be a way to guess the password without limit. Sets
-- account to the user's row, which stays empty without a context.
set local role pandom_definer;

create or replace function public.confirm_password(
    password text, hash_key text, out account public.auth_users, out confirmed boolean
)
language plpgsql
set search_path = ''
as $$
declare
    digest bytea;
    address constant inet := coalesce(public.client_address(), '0.0.0.0'::inet);
begin
    select u.* into account
    from public.auth_users as u
    where u.uuid = (select public.current_user_id())
    for no key update;
    if not found then
        confirmed := false;
        return;
    end if;
    digest := sha256(convert_to(lower(account.email), 'UTF8'));
    if public.sign_in_locked(digest, address) then
        perform public.note_refusal('audit_logs', account.uuid, 'login_throttled');
        confirmed := false;
        return;
    end if;
    confirmed := public.password_matches(
        account, confirm_password.password, confirm_password.hash_key
    );
    if not confirmed then
        perform public.note_failed_attempt(digest, address);
        perform public.write_event(
            'audit_logs', account.uuid, 'login_failed', 'warning',
            jsonb_build_object('subject', account.uuid, 'reason', 'confirmation')
        );
    end if;
end
$$;

comment on function public.confirm_password(text, text) is
'Whether the current user knows its password; failures count as failed sign-ins.';
