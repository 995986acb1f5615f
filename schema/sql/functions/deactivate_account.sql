-- Deactivates the current user's account; the trigger ends its sessions.
--
-- Returns false without a context, for a wrong password and for a throttled attempt.
set local role pandom_definer;

create or replace function public.deactivate_account(password text, hash_key text default null)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        deactivate_account.password, deactivate_account.hash_key
    );
    account constant public.auth_users := proof.account;
begin
    if not proof.confirmed then
        return false;
    end if;
    update public.auth_users as u set is_active = false where u.uuid = account.uuid;
    return true;
end
$$;

comment on function public.deactivate_account(text, text) is
'Deactivates the current user''s account and ends its sessions.';
