-- Changes the current user's password.
--
-- Returns false without a context, for a wrong password and for a throttled attempt.
-- Ends all sessions of the user, this one included. Error: a new password out of bounds.
set local role pandom_definer;

create or replace function public.change_password(
    password text, new_password text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        change_password.password, change_password.hash_key
    );
    account constant public.auth_users := proof.account;
begin
    if not proof.confirmed then
        return false;
    end if;
    perform public.set_password(
        account.uuid, change_password.new_password, change_password.hash_key
    );
    perform public.send_message('password_changed', account.email, null, interval '7 days');
    perform public.write_event(
        'security_logs', account.uuid, 'password_changed', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.change_password(text, text, text) is
'Changes the current user''s password and ends its sessions.';
